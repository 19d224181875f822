"""Names of architectures and the one way to build them: `build_model`.

A builder is a function `(images, context, *, options...) -> logits`. Its keyword-only parameters are the options that a
manifest may set under `spec.model.options`, spelled in camelCase; their annotations are the rules. How to add one is in
`docs/models.md`. What an architecture looks like stands in its own file, not here.
"""

import dataclasses
import difflib
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from imagetrain_api import rules, schema
from imagetrain_trainer import errors
from imagetrain_trainer.models import normalization

ARCHITECTURE_PATH = "spec.model.architecture"
INPUT_SHAPE_PATH = "spec.model.inputShape"
MODULE_PATH = "spec.model.module"
OPTIONS_PATH = "spec.model.options"

PIXEL_MAXIMUM = 255.0
MAX_CAUSE_CHARACTERS = 300  # Keras' messages run over pages; the cause is quoted this far

Builder: typing.TypeAlias = Callable[..., keras.KerasTensor]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a builder needs to know besides its options.

    Attributes:
        input_shape: (height, width, channels) of one image.
        classes: length of the logits.
        synchronized_batch_norm: whether batch statistics are taken over all workers.
    """

    input_shape: tuple[int, int, int]
    classes: int
    synchronized_batch_norm: bool

    def batch_normalization(self, *, momentum: float = 0.99, epsilon: float = 1e-3) -> keras.layers.BatchNormalization:
        """Make a BatchNormalization layer whose statistics span what the job asks for."""
        if self.synchronized_batch_norm:
            return normalization.SynchronizedBatchNormalization(momentum=momentum, epsilon=epsilon)
        return keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon)

    def classifier(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Map features (batch, n) to logits (batch, classes), in float32 under any precision."""
        return keras.layers.Dense(self.classes, dtype="float32", name="logits")(features)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One registered builder.

    Attributes:
        builder: maps images (batch, height, width, channels) in 0..1 and a BuildContext to logits (batch, classes).
        options: document class decoded from `spec.model.options`.
        smallest_side_pixels: least height and width the builder accepts.
    """

    builder: Builder
    options: type[schema.Document]
    smallest_side_pixels: int


_architectures: dict[str, Architecture] = {}


def register(name: str, *, smallest_side_pixels: int = 1) -> Callable[[Builder], Builder]:
    """Make a builder available to manifests as `spec.model.architecture: <name>`.

    Raises:
        ConfigError: another builder has this name.
    """

    def remember(builder: Builder) -> Builder:
        known = _architectures.get(name)
        if known is not None and _origin(known.builder) != _origin(builder):
            raise errors.ConfigError(
                f"An architecture must have a name of its own, got {name!r} from {_origin(builder)}. "
                f"{_origin(known.builder)} has it already: register under another name."
            )
        _architectures[name] = Architecture(
            builder=builder, options=_options_document(builder), smallest_side_pixels=smallest_side_pixels
        )
        return builder

    return remember


def architecture_names() -> tuple[str, ...]:
    """Return the registered names in alphabetical order."""
    return tuple(sorted(_architectures))


def architecture_options(name: str) -> tuple[schema.DocumentField, ...]:
    """Return the options of one architecture with their rules, in the builder's order.

    Raises:
        ConfigError: no such architecture.
    """
    return schema.document_fields(_find(name).options)


def load_module(name: str) -> None:
    """Import a user's module, which registers its architectures.

    Raises:
        ConfigError: it cannot be found, or fails while it is imported.
    """
    try:
        importlib.import_module(name)
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or " ")
        fix = "Install it, or put its folder on PYTHONPATH." if is_absent else "Install what it imports."
        raise errors.ConfigError(f"{MODULE_PATH} must be importable, got {name!r}: {_cause(error)}. {fix}") from error
    except errors.ConfigError:
        raise
    except Exception as error:
        raise errors.ConfigError(
            f"{MODULE_PATH} must be importable, got {name!r}, which raised {_cause(error)}. "
            "Import it in Python to see where."
        ) from error


def build_model(
    architecture: str,
    *,
    input_shape: Sequence[int],
    classes: int,
    options: Mapping[str, Any] | None = None,
    synchronized_batch_norm: bool = False,
) -> keras.Model:
    """Build a model from images to logits, its weights drawn from the seed of `keras.utils.set_random_seed`.

    Input: (batch, height, width, channels), uint8 or float32 in 0..255; rescaling lies inside. Output: (batch, classes)
    float32 logits, without softmax.

    Args:
        architecture: a registered name.
        input_shape: (height, width, channels).
        classes: number of classes, at least 2.
        options: `spec.model.options` of the manifest, camelCase keys.
        synchronized_batch_norm: whether batch statistics are taken over all workers.

    Raises:
        ConfigError: the name, an option or the input shape breaks a rule; the message has the field's path and the fix.
    """
    entry = _find(architecture)
    chosen = _decode_options(entry.options, options or {})
    height, width, channels = _checked_shape(architecture, entry, input_shape)
    context = BuildContext(
        input_shape=(height, width, channels), classes=classes, synchronized_batch_norm=synchronized_batch_norm
    )
    images = keras.Input((height, width, channels), dtype="float32", name="images")
    rescaled = keras.layers.Rescaling(1 / PIXEL_MAXIMUM, name="rescale")(images)
    try:
        logits = entry.builder(rescaled, context, **chosen)
        return keras.Model(images, _checked_logits(architecture, logits, classes), name=architecture)
    except ValueError as error:  # Keras' own complaint about shapes, mostly an image too small for the layers
        raise errors.ConfigError(
            f"{INPUT_SHAPE_PATH} must suit {architecture}, got {list(input_shape)}: {_cause(error)}. "
            "Use larger images or other options."
        ) from error


def _find(name: str) -> Architecture:
    if name in _architectures:
        return _architectures[name]
    near = difflib.get_close_matches(name, architecture_names(), n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"An architecture of your own needs {MODULE_PATH}."
    raise errors.ConfigError(
        str(rules.FieldError(ARCHITECTURE_PATH, f"be one of {', '.join(architecture_names())}", name, hint))
    )


def _origin(builder: Builder) -> str:
    return f"{builder.__module__}.{builder.__qualname__}"


def _options_document(builder: Builder) -> type[schema.Document]:
    """Turn a builder's keyword-only parameters into a document class that checks them."""
    hints = typing.get_type_hints(builder, include_extras=True)
    fields = []
    for parameter in inspect.signature(builder).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        hint = hints.get(parameter.name, Any)
        declared = next((item for item in getattr(hint, "__metadata__", ()) if isinstance(item, rules.Setting)), None)
        default = dataclasses.MISSING if parameter.default is inspect.Parameter.empty else parameter.default
        field: Any = dataclasses.field(default=default, metadata={"setting": declared or rules.Setting(doc="")})
        fields.append((parameter.name, hint, field))
    return dataclasses.make_dataclass("Options", fields, bases=(schema.Document,), frozen=True, kw_only=True)


def _decode_options(document: type[schema.Document], options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        decoded = schema.decode(document, options, OPTIONS_PATH)
    except schema.ValidationError as error:
        raise errors.ConfigError(" ".join(str(each) for each in error.errors)) from error
    return {field.name: getattr(decoded, field.name) for field in schema.document_fields(document)}


def _checked_shape(name: str, entry: Architecture, shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise errors.ConfigError(str(rules.FieldError(INPUT_SHAPE_PATH, "be [height, width, channels]", list(shape))))
    height, width, channels = shape
    if min(height, width) < entry.smallest_side_pixels:
        rule = f"be at least {entry.smallest_side_pixels} pixels high and wide for {name}"
        raise errors.ConfigError(str(rules.FieldError(INPUT_SHAPE_PATH, rule, list(shape), "Pack larger images.")))
    return height, width, channels


def _checked_logits(name: str, logits: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    if tuple(logits.shape) != (None, classes):
        raise errors.ConfigError(
            f"{ARCHITECTURE_PATH} {name} must return logits of shape (batch, {classes}), got {tuple(logits.shape)}. "
            "End its builder with `return context.classifier(features)`."
        )
    if logits.dtype == "float32":
        return logits
    return keras.layers.Activation("linear", dtype="float32", name="float32_logits")(logits)


def _cause(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:MAX_CAUSE_CHARACTERS].rstrip(". ")

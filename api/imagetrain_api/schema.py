"""Declared settings: dataclass fields that carry their own rules, and the decoder that applies them.

From these declarations come decoding with all errors collected (here) and the CRD's schema (the operator).
Nothing here knows what any setting means.
"""

import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagetrain_api import rules
from imagetrain_api.rules import FieldError, Setting, TypeForm, join

T = typing.TypeVar("T", bound="Document")


class ValidationError(ValueError):
    """A document breaks one or more rules; `errors` lists every one in document order."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of one document.

    Attributes:
        field: attribute that the error names, relative to the document; dots reach into nested documents.
        rule: text behind "must".
        holds: predicate over the decoded document.
        cel: the same predicate for the API server, over `self`.
    """

    field: str
    rule: str
    holds: Callable[[Any], bool]
    cel: str


@dataclasses.dataclass(frozen=True, slots=True)
class TransitionRule:
    """A rule over an old and a new version of one document.

    Attributes:
        field: attribute that the error names, relative to the document.
        rule: text behind "must".
        holds: predicate over the old and the new document.
        cel: the same predicate for the API server, over `oldSelf` and `self`.
        is_of_field: whether these two are the field and not the document.
    """

    field: str
    rule: str
    holds: Callable[[Any, Any], bool]
    cel: str
    is_of_field: bool = False


def setting(*, default: Any = dataclasses.MISSING, default_factory: Any = dataclasses.MISSING, **bounds: Any) -> Any:
    """Declare a dataclass field with rules; without a default the key is required."""
    metadata = {"setting": Setting(**bounds)}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Document:
    """Base of every document class; constructing one in code checks the same rules as decoding one."""

    __slots__ = ()
    RULES: typing.ClassVar[tuple[Rule, ...]] = ()
    TRANSITIONS: typing.ClassVar[tuple[TransitionRule, ...]] = ()

    def __post_init__(self) -> None:
        errors: list[FieldError] = []
        for field in document_fields(type(self)):
            if isinstance(value := getattr(self, field.name), Document):
                continue  # it was checked when it was made
            errors.extend(rules.value_errors(field.type, value, field.key, field.setting))
        if not errors:
            errors.extend(_broken_rules(self, ""))
        if errors:
            raise ValidationError(errors)


def replace(document: T, **changes: object) -> T:
    """Return a copy with some fields changed, as `dataclasses.replace` does; only those and the rules are checked.

    Raises:
        ValidationError: a change breaks a rule.
    """
    made = object.__new__(type(document))
    errors: list[FieldError] = []
    for field in document_fields(type(document)):
        value = changes.get(field.name, getattr(document, field.name))
        if field.name in changes and not isinstance(value, Document):
            errors.extend(rules.value_errors(field.type, value, field.key, field.setting))
        object.__setattr__(made, field.name, value)
    if unknown := changes.keys() - {field.name for field in document_fields(type(document))}:
        raise TypeError(f"{type(document).__name__} has no field {sorted(unknown)}")
    if errors := errors or _broken_rules(made, ""):
        raise ValidationError(errors)
    return made


@dataclasses.dataclass(frozen=True, slots=True)
class DocumentField:
    """One field as the decoder and the schema generator see it.

    Attributes:
        name: the attribute.
        key: its camelCase name in a manifest.
        type: its annotation, evaluated.
        setting: its rules.
        is_required: whether it has no default.
        default: the default; None where there is none.
    """

    name: str
    key: str
    type: TypeForm
    setting: Setting
    is_required: bool
    default: object


def document_fields(cls: type[Document]) -> tuple[DocumentField, ...]:
    """Return the declared fields of a document class in order."""
    if cls not in _FIELDS:
        hints = typing.get_type_hints(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # every subclass is a dataclass
        _FIELDS[cls] = tuple(_document_field(field, hints[field.name]) for field in fields)
    return _FIELDS[cls]


_MAX_INTEGER = 2**63
_FIELDS: dict[type[Document], tuple[DocumentField, ...]] = {}  # resolving annotations is slow


def _document_field(field: dataclasses.Field[Any], kind: TypeForm) -> DocumentField:
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    is_required = default is dataclasses.MISSING
    key, bounds = camel_case(field.name), field.metadata["setting"]
    return DocumentField(field.name, key, kind, bounds, is_required, None if is_required else default)


def camel_case(name: str) -> str:
    """Return the manifest's spelling of an attribute name (`learning_rate` -> `learningRate`)."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def decode(cls: type[T], value: object, path: str = "") -> T:
    """Make a document from parsed JSON or YAML.

    Raises:
        ValidationError: with every broken rule in `value`, not only the first.
    """
    errors: list[FieldError] = []
    decoded = _decode_document(cls, value, path, errors)
    if errors:
        raise ValidationError(errors)
    return typing.cast("T", decoded)


def encode(document: Document) -> dict[str, Any]:
    """Return the JSON form of a document: camelCase keys, absent optional values left out."""
    encoded = {}
    for field in document_fields(type(document)):
        value = getattr(document, field.name)
        if value is not None:
            encoded[field.key] = encode_value(value)
    return encoded


def encode_value(value: object) -> object:
    """Return the JSON form of one value of a document."""
    if isinstance(value, Document):
        return encode(value)
    if isinstance(value, Mapping):
        return {key: encode_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode_value(item) for item in value]
    return value


def _decode_document(cls: type[Document], value: object, path: str, errors: list[FieldError]) -> Document | None:
    if not isinstance(value, Mapping):
        errors.append(FieldError(path or "document", "be an object", value))
        return None
    before = len(errors)
    fields = {field.key: field for field in document_fields(cls)}
    errors.extend(_unknown_keys(value, fields, path))
    arguments = {}
    for key, field in fields.items():
        where = join(path, key)
        if key not in value or (value[key] is None and not field.is_required):
            if field.is_required:
                errors.append(FieldError(where, "be given", None, f"It is {_lower_first(field.setting.doc)}"))
            continue
        arguments[field.name] = _decode_value(field.type, value[key], where, field.setting, errors)
    if len(errors) > before:
        return None
    return _construct(cls, arguments, path, errors)


def _construct(cls: type[Document], arguments: dict[str, Any], path: str, errors: list[FieldError]) -> Document | None:
    try:
        return cls(**arguments)
    except ValidationError as error:
        errors.extend(dataclasses.replace(each, path=join(path, each.path)) for each in error.errors)
        return None


def _unknown_keys(value: Mapping[Any, Any], fields: Mapping[str, Any], path: str) -> list[FieldError]:
    errors = []
    for key in value:
        if key in fields:
            continue
        near = difflib.get_close_matches(str(key), list(fields), n=1)
        hint = f"Did you mean {join(path, near[0])}?" if near else f"Known here: {', '.join(fields)}."
        where = join(path, str(key)) or '""'
        errors.append(FieldError(where, "be left out: this setting does not exist", value[key], hint))
    return errors


def _decode_value(kind: TypeForm, value: object, path: str, bounds: Setting, errors: list[FieldError]) -> object:
    kind = rules.without_none(kind)
    if isinstance(kind, type) and issubclass(kind, Document):
        return _decode_document(kind, value, path, errors)
    origin: object = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list | tuple):
        item_kind = typing.get_args(kind)[0]
        before = len(errors)
        items = tuple(
            _decode_value(item_kind, item, f"{path}[{index}]", bounds, errors) for index, item in enumerate(value)
        )
        if len(errors) == before:
            errors.extend(rules.list_errors(items, path, bounds))
        return items
    if origin is Mapping and isinstance(value, Mapping):
        value = _decode_mapping(typing.get_args(kind)[1], value, bounds)
    elif kind in (int, float):
        value = _decode_number(kind, value)
    elif kind is str and bounds.is_int_or_string:
        value = _decode_quantity(value)
    errors.extend(rules.value_errors(kind, value, path, bounds))
    return value


def _decode_mapping(item_kind: TypeForm, value: Mapping[Any, Any], bounds: Setting) -> Mapping[Any, Any]:
    if item_kind is Any:
        return value
    given = {key: item for key, item in value.items() if item is not None}  # the API server drops them too
    if not bounds.is_int_or_string:
        return given
    return {key: _decode_quantity(item) for key, item in given.items()}


def _decode_quantity(value: object) -> object:
    """Return an integer as its text."""
    whole = _decode_number(int, value)
    return str(whole) if type(whole) is int else value


def _decode_number(kind: type, value: object) -> object:
    """Return a number as the API server has it: 2.0 is an integer too, and what exceeds 64 bits is a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if abs(value) >= _MAX_INTEGER:
        return _as_float(value)
    if kind is int:
        return int(value) if isinstance(value, float) and value.is_integer() else value
    return float(value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _broken_rules(document: Document, path: str) -> list[FieldError]:
    return [
        FieldError(join(path, field_path(rule.field)), rule.rule, _reach(document, rule.field))
        for rule in document.RULES
        if not rule.holds(document)
    ]


def transition_errors(old: T, new: T, path: str = "") -> list[FieldError]:
    """Return the rules that the change from `old` to `new` breaks."""
    return [
        FieldError(join(path, field_path(rule.field)), rule.rule, _reach(new, rule.field))
        for rule in old.TRANSITIONS
        if not rule.holds(old, new)
    ]


def field_path(attributes: str) -> str:
    """Return the manifest's spelling of a dotted attribute path."""
    return ".".join(camel_case(part) for part in attributes.split("."))


def _reach(document: object, attributes: str) -> object:
    for part in attributes.split("."):
        document = getattr(document, part)
    return encode(document) if isinstance(document, Document) else document


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

"""Declared settings: dataclass fields that carry their own rules, and the decoder that applies them.

A document class is a frozen dataclass derived from `Document`; each field is made by `setting`, which holds its bounds and
its one-line documentation. From these declarations come decoding with all errors collected (here) and the CRD schema.
Nothing here knows what any setting means.
"""

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

T = typing.TypeVar("T", bound="Document")

_USER_INFO = re.compile(r"//[^/@\s]*@")  # `//key:secret@host`: never repeated in a message
MAX_VALUE_CHARACTERS = 80  # a value quoted in an error is cut here, so that a log line stays a line


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Rules of one field.

    Attributes:
        doc: one line for the reference.
        minimum, maximum: inclusive bounds of a number.
        exclusive_minimum, exclusive_maximum: exclusive bounds of a number.
        choices: allowed strings.
        pattern: regular expression that a whole string must match, with `pattern_rule` saying it in words.
        min_items, max_items: bounds of a list's length.
        max_length: longest string.
        parse: strict parser of a string; a ValueError's text is the rule.
        unique: whether a list's items must differ.
    """

    doc: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str | None = None
    pattern_rule: str = ""
    min_items: int | None = None
    max_items: int | None = None
    max_length: int | None = None
    parse: Callable[[str], object] | None = None
    unique: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: `<path> must be <rule>, got <value!r>.`"""

    path: str
    rule: str
    value: Any
    hint: str = ""

    def __str__(self) -> str:
        shown = _USER_INFO.sub("//***@", repr(self.value))
        if len(shown) > MAX_VALUE_CHARACTERS:
            shown = shown[: MAX_VALUE_CHARACTERS - 1] + "…"
        return f"{self.path} must {self.rule}, got {shown}.{' ' + self.hint if self.hint else ''}"


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


def setting(*, default: Any = dataclasses.MISSING, default_factory: Any = dataclasses.MISSING, **rules: Any) -> Any:
    """Declare a dataclass field with rules; without a default the key is required."""
    metadata = {"setting": Setting(**rules)}
    if default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Document:
    """Base of every document class; constructing one in code checks the same rules as decoding one."""

    __slots__ = ()
    RULES: typing.ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        errors: list[FieldError] = []
        for field in document_fields(type(self)):
            if isinstance(value := getattr(self, field.name), Document):
                continue  # it was checked when it was made
            _check_value(field.type, value, field.key, field.setting, errors)
        if not errors:
            errors.extend(_broken_rules(self, ""))
        if errors:
            raise ValidationError(errors)


@dataclasses.dataclass(frozen=True, slots=True)
class DocumentField:
    """One field as the decoder and the schema generator see it; `type` is resolved, `key` is the camelCase name."""

    name: str
    key: str
    type: Any
    setting: Setting
    is_required: bool


@functools.cache
def document_fields(cls: type) -> tuple[DocumentField, ...]:
    """Return the declared fields of a document class in order."""
    hints = typing.get_type_hints(cls)
    return tuple(
        DocumentField(
            field.name,
            camel_case(field.name),
            hints[field.name],
            field.metadata["setting"],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(cls)
    )


def camel_case(name: str) -> str:
    """Return the manifest's spelling of an attribute name (`learning_rate` -> `learningRate`)."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def decode(cls: type[T], value: Any, path: str = "") -> T:
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
            encoded[field.key] = _encode_value(value)
    return encoded


def _encode_value(value: Any) -> Any:
    if isinstance(value, Document):
        return encode(value)
    if isinstance(value, Mapping):
        return {key: _encode_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode_value(item) for item in value]
    return value


def _decode_document(cls: type[Document], value: Any, path: str, errors: list[FieldError]) -> Document | None:
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


def _construct(
    cls: type[Document], arguments: dict[str, Any], path: str, errors: list[FieldError]
) -> Document | None:
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
        errors.append(FieldError(join(path, str(key)), "be left out: this setting does not exist", value[key], hint))
    return errors


def _decode_value(kind: Any, value: Any, path: str, rules: Setting, errors: list[FieldError]) -> Any:
    kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, Document):
        return _decode_document(kind, value, path, errors)
    if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
        item_kind = typing.get_args(kind)[0]
        before = len(errors)
        items = tuple(
            _decode_value(item_kind, item, f"{path}[{index}]", rules, errors) for index, item in enumerate(value)
        )
        if len(errors) == before:
            errors.extend(_list_errors(items, path, rules))
        return items
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if typing.get_origin(kind) is Mapping and rules.parse is not None and isinstance(value, Mapping):
        # `cpu: 2` and `cpu: 0.5` are quantities, as Kubernetes reads them.
        value = {key: str(item) if type(item) in (int, float) else item for key, item in value.items()}
    _check_value(kind, value, path, rules, errors)
    return value


def _check_value(kind: Any, value: Any, path: str, rules: Setting, errors: list[FieldError]) -> None:
    if value is None and _without_none(kind) is not kind:
        return
    kind = _without_none(kind)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(value, tuple):
            errors.append(FieldError(path, "be a list", value))
            return
        for index, item in enumerate(value):
            if not isinstance(item, Document):
                _check_value(typing.get_args(kind)[0], item, f"{path}[{index}]", rules, errors)
        errors.extend(_list_errors(value, path, rules))
    elif origin is Mapping:
        errors.extend(_mapping_errors(kind, value, path, rules))
    elif kind is bool:
        if not isinstance(value, bool):
            errors.append(FieldError(path, "be true or false", value))
    elif kind in (int, float):
        errors.extend(_number_errors(kind, value, path, rules))
    elif kind is str:
        errors.extend(_string_errors(value, path, rules))


def _list_errors(items: Sequence[Any], path: str, rules: Setting) -> list[FieldError]:
    shown = list(items)
    if rules.min_items is not None and rules.min_items == rules.max_items and len(items) != rules.min_items:
        return [FieldError(path, f"hold exactly {rules.min_items} items", shown)]
    if rules.min_items is not None and len(items) < rules.min_items:
        return [FieldError(path, f"hold at least {rules.min_items} item(s)", shown)]
    if rules.max_items is not None and len(items) > rules.max_items:
        return [FieldError(path, f"hold at most {rules.max_items} items", shown)]
    if rules.unique and len(set(items)) < len(items):
        return [FieldError(path, "not name anything twice", shown)]
    return []


def _mapping_errors(kind: Any, value: Any, path: str, rules: Setting) -> list[FieldError]:
    if not isinstance(value, Mapping):
        return [FieldError(path, "be an object", value)]
    item_kind = typing.get_args(kind)[1]
    errors: list[FieldError] = []
    for key, item in value.items():
        if not isinstance(key, str):
            errors.append(FieldError(path, "have strings as keys", key))
        elif item_kind is not Any:
            _check_value(item_kind, item, join(path, key), rules, errors)
    return errors


def _number_errors(kind: type, value: Any, path: str, rules: Setting) -> list[FieldError]:
    word = "an integer" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return [FieldError(path, f"be {word}{_bounds(rules)}", value)]
    out_of_bounds = (
        value != value  # NaN
        or value in (float("inf"), float("-inf"))
        or (rules.minimum is not None and value < rules.minimum)
        or (rules.maximum is not None and value > rules.maximum)
        or (rules.exclusive_minimum is not None and value <= rules.exclusive_minimum)
        or (rules.exclusive_maximum is not None and value >= rules.exclusive_maximum)
    )
    return [FieldError(path, f"be {word}{_bounds(rules)}", value)] if out_of_bounds else []


def _bounds(rules: Setting) -> str:
    signs = (
        (">=", rules.minimum),
        (">", rules.exclusive_minimum),
        ("<=", rules.maximum),
        ("<", rules.exclusive_maximum),
    )
    given = [f"{sign} {bound:g}" for sign, bound in signs if bound is not None]
    return f" {' and '.join(given)}" if given else ""


def _string_errors(value: Any, path: str, rules: Setting) -> list[FieldError]:
    if not isinstance(value, str):
        return [FieldError(path, f"be {_string_rule(rules)}", value)]
    if rules.choices and value not in rules.choices:
        near = difflib.get_close_matches(value, rules.choices, n=1)
        return [FieldError(path, f"be {_string_rule(rules)}", value, f"Did you mean {near[0]!r}?" if near else "")]
    if rules.max_length is not None and len(value) > rules.max_length:
        return [FieldError(path, f"be at most {rules.max_length} characters long", value)]
    if rules.pattern and not re.fullmatch(rules.pattern, value):
        return [FieldError(path, f"be {_string_rule(rules)}", value)]
    if rules.parse is not None:
        try:
            rules.parse(value)
        except ValueError as error:
            return [FieldError(path, f"be {error}", value)]
    return []


def _string_rule(rules: Setting) -> str:
    if rules.choices:
        return f"one of {', '.join(rules.choices)}"
    return rules.pattern_rule or "a string"


def _broken_rules(document: Document, path: str) -> list[FieldError]:
    return [
        FieldError(join(path, field_path(rule.field)), rule.rule, _reach(document, rule.field))
        for rule in document.RULES
        if not rule.holds(document)
    ]


def field_path(attributes: str) -> str:
    """Return the manifest's spelling of a dotted attribute path."""
    return ".".join(camel_case(part) for part in attributes.split("."))


def _reach(document: Any, attributes: str) -> Any:
    for part in attributes.split("."):
        document = getattr(document, part)
    return encode(document) if isinstance(document, Document) else document


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = (item for item in typing.get_args(kind) if item is not type(None))
    return kind


def join(path: str, key: str) -> str:
    """Return the path of `key` inside `path`."""
    return f"{path}.{key}" if path else key


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]

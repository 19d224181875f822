"""Rules of one setting, and their check against one value.

Nothing here knows documents; `imagetrain_api.schema` builds them from these settings.
"""

import dataclasses
import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

TypeForm = Any  # what an annotation evaluates to: `int`, `str | None`, `tuple[int, ...]`

_USER_INFO = re.compile(r"//[^/@\s]*@")  # `//key:secret@host`: never repeated in a message
MAX_VALUE_CHARACTERS = 80  # a value quoted in an error is cut here, so that a log line stays a line


@dataclasses.dataclass(frozen=True, slots=True)
class Syntax:
    r"""A regular expression that a whole string must match, or must not match if `is_forbidden`.

    It stays within what Python and RE2 (the API server) read alike: no look-around, and no classes such as `\w` that
    Python widens to all of Unicode.

    Attributes:
        pattern: the regular expression.
        rule: text behind "must be".
        is_forbidden: whether a match breaks the rule.
    """

    pattern: str
    rule: str
    is_forbidden: bool = False

    def holds(self, text: str) -> bool:
        """Tell whether the text keeps this rule."""
        return (re.fullmatch(self.pattern, text) is None) == self.is_forbidden


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Rules of one field.

    Attributes:
        doc: one line for the reference.
        minimum, maximum: inclusive bounds of a number.
        exclusive_minimum, exclusive_maximum: exclusive bounds of a number.
        choices: allowed strings.
        pattern: regular expression that a whole string must match (within what `Syntax` allows).
        pattern_rule: the same in words, behind "must be".
        syntax: further such rules; the first broken one is told.
        min_items, max_items: bounds of a list's length.
        max_properties: most keys of a mapping.
        key_pattern, key_rule: regular expression that a mapping's keys must match, and the same in words.
        max_length: longest string, in characters.
        max_bytes: longest string, in bytes of UTF-8.
        is_int_or_string: whether integers are taken for their text, as Kubernetes does with quantities (`cpu: 2`).
        unique: whether a list's items must differ.
        map_key: key that tells a list's documents apart, for Kubernetes to merge them by.
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
    max_properties: int | None = None
    key_pattern: str | None = None
    key_rule: str = ""
    max_length: int | None = None
    max_bytes: int | None = None
    syntax: tuple[Syntax, ...] = ()
    is_int_or_string: bool = False
    unique: bool = False
    map_key: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: "<path> must <rule>, got <value>. <hint>"."""

    path: str
    rule: str
    value: object
    hint: str = ""

    def __str__(self) -> str:
        shown = _USER_INFO.sub("//***@", repr(self.value))
        if len(shown) > MAX_VALUE_CHARACTERS:
            shown = shown[: MAX_VALUE_CHARACTERS - 1] + "…"
        return f"{self.path} must {self.rule}, got {shown}.{' ' + self.hint if self.hint else ''}"


def value_errors(kind: TypeForm, value: object, path: str, rules: Setting) -> list[FieldError]:
    """Return each rule that `value` breaks; nested documents check themselves."""
    kind, allows_none = without_none(kind), without_none(kind) is not kind
    if value is None and allows_none:
        return []
    if kind is Any:
        return _json_errors(value, path)
    origin: object = typing.get_origin(kind)
    if origin is tuple:
        return _tuple_errors(kind, value, path, rules)
    if origin is Mapping:
        return _mapping_errors(kind, value, path, rules)
    return _scalar_errors(kind, value, path, rules)


def _scalar_errors(kind: TypeForm, value: object, path: str, rules: Setting) -> list[FieldError]:
    if kind is bool:
        return [] if isinstance(value, bool) else [FieldError(path, "be true or false", value)]
    if kind in (int, float):
        return _number_errors(kind, value, path, rules)
    return _string_errors(value, path, rules) if kind is str else []


def _tuple_errors(kind: TypeForm, value: object, path: str, rules: Setting) -> list[FieldError]:
    if not isinstance(value, tuple):
        return [FieldError(path, "be a list", value)]
    item_kind = typing.get_args(kind)[0]
    errors = [
        error for index, item in enumerate(value) for error in value_errors(item_kind, item, f"{path}[{index}]", rules)
    ]
    return errors or list_errors(value, path, rules)


def list_errors(items: Sequence[Any], path: str, rules: Setting) -> list[FieldError]:
    """Return the rule of a list as a whole that `items` break, if any."""
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


def _mapping_errors(kind: TypeForm, value: object, path: str, rules: Setting) -> list[FieldError]:
    if not isinstance(value, Mapping):
        return [FieldError(path, "be an object", value)]
    if rules.max_properties is not None and len(value) > rules.max_properties:
        return [FieldError(path, f"hold at most {rules.max_properties} keys", value)]
    item_kind = typing.get_args(kind)[1]
    errors: list[FieldError] = []
    for key, item in value.items():
        if not isinstance(key, str):
            errors.append(FieldError(path, "have strings as keys", key))
        elif rules.key_pattern and not re.fullmatch(rules.key_pattern, key):
            errors.append(FieldError(path, f"have keys that are {rules.key_rule}", key))
        else:
            errors.extend(value_errors(item_kind, item, join(path, key), rules))
    return errors


def _json_errors(value: object, path: str) -> list[FieldError]:
    if isinstance(value, list | tuple):
        return [error for index, item in enumerate(value) for error in _json_errors(item, f"{path}[{index}]")]
    if isinstance(value, Mapping):
        return _mapping_errors(Mapping[str, Any], value, path, Setting(doc=""))
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        return [FieldError(path, "be a finite number", value if isinstance(value, float) else math.inf)]
    is_json = value is None or isinstance(value, bool | int | float | str)
    return [] if is_json else [FieldError(path, "be what JSON knows", value)]


def _number_errors(kind: type, value: object, path: str, rules: Setting) -> list[FieldError]:
    word = "an integer" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return [FieldError(path, f"be {word}{_bounds(rules)}", value)]
    out_of_bounds = (
        not math.isfinite(value)
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
    given = [f"{sign} {bound}" for sign, bound in signs if bound is not None]
    return f" {' and '.join(given)}" if given else ""


def _string_errors(value: object, path: str, rules: Setting) -> list[FieldError]:
    if not isinstance(value, str):
        return [FieldError(path, f"be {_string_rule(rules)}", value)]
    if rules.choices and value not in rules.choices:
        near = difflib.get_close_matches(value, rules.choices, n=1)
        return [FieldError(path, f"be {_string_rule(rules)}", value, f"Did you mean {near[0]!r}?" if near else "")]
    if rules.max_length is not None and len(value) > rules.max_length:
        return [FieldError(path, f"be at most {rules.max_length} characters long", value)]
    if rules.pattern and not re.fullmatch(rules.pattern, value):
        return [FieldError(path, f"be {_string_rule(rules)}", value)]
    if rules.max_bytes is not None and len(value.encode(errors="surrogatepass")) > rules.max_bytes:
        return [FieldError(path, f"be at most {rules.max_bytes} bytes long", value)]
    broken = next((syntax for syntax in rules.syntax if not syntax.holds(value)), None)
    return [FieldError(path, f"be {broken.rule}", value)] if broken else []


def _string_rule(rules: Setting) -> str:
    if rules.choices:
        return f"one of {', '.join(rules.choices)}"
    return rules.pattern_rule or "a string"


def without_none(kind: TypeForm) -> TypeForm:
    """Return `X` for `X | None`, and any other type as it is."""
    origin: object = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        (kind,) = (item for item in typing.get_args(kind) if item is not type(None))
    return kind


def join(path: str, key: str) -> str:
    """Return the path of `key` inside `path`."""
    return f"{path}.{key}" if path else key

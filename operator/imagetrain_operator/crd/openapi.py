"""From a declared document to the structural OpenAPI schema of the API server.

It says in OpenAPI and CEL what `imagetrain_api.rules` and `imagetrain_api.schema` check in Python. Where OpenAPI has a
word for a rule it is used, and CEL says the rest. Null needs no word: the API server drops a null before it fills in
defaults. So does it with keys that the schema does not know, unless the client asks for strict validation, as kubectl
does.
"""

import json
import typing
from collections.abc import Mapping
from typing import Any

from imagetrain_api import rules, schema
from imagetrain_api.rules import Setting, Syntax
from imagetrain_api.schema import Document, DocumentField, Rule, TransitionRule


def build_document_schema(cls: type[Document], *, has_defaults: bool) -> dict[str, Any]:
    """Build the schema of a document class.

    Args:
        cls: the document class.
        has_defaults: whether the API server fills in defaults. It does for what users write; what the operator writes
            stays as it was written.
    """
    fields = schema.document_fields(cls)
    built: dict[str, Any] = {"type": "object"}
    if required := [field.key for field in fields if field.is_required]:
        built["required"] = required
    built["properties"] = {field.key: _build_field(field, has_defaults=has_defaults) for field in fields}
    cross_field: tuple[Rule | TransitionRule, ...] = (
        *cls.RULES,
        *(rule for rule in cls.TRANSITIONS if not rule.is_of_field),
    )
    if validations := [_validation(rule.field, rule.rule, rule.cel) for rule in cross_field]:
        built["x-kubernetes-validations"] = validations
    for rule in cls.TRANSITIONS:
        if rule.is_of_field:
            _add_field_validation(built, rule)
    return built


def _validation(field: str, rule: str, cel: str) -> dict[str, str]:
    return {"rule": cel, "message": f"must {rule}", "fieldPath": f".{schema.field_path(field)}"}


def _add_field_validation(document: dict[str, Any], rule: TransitionRule) -> None:
    """Put a rule where its field is.

    The API server evaluates every rule at every write, of a status too, and makes a map of all properties of a document
    for each look at one of them.
    """
    field = document
    for key in schema.field_path(rule.field).split("."):
        field = field["properties"][key]
    field.setdefault("x-kubernetes-validations", []).append({"rule": rule.cel, "message": f"must {rule.rule}"})


def _build_field(field: DocumentField, *, has_defaults: bool) -> dict[str, Any]:
    built: dict[str, Any] = {"description": describe(field.setting)}
    built |= _build_type(rules.without_none(field.type), field.setting, has_defaults=has_defaults)
    if has_defaults and field.default is not None:
        # In full: `{}` would be filled in all the same, but the API server checks a default by the rules as it stands.
        built["default"] = schema.encode_value(field.default)
    return built


def describe(setting: Setting) -> str:
    """Return the description of a field: its line of documentation, and its pattern in words."""
    return f"{setting.doc} It is {setting.pattern_rule}." if setting.pattern_rule else setting.doc


def _build_type(kind: rules.TypeForm, setting: Setting, *, has_defaults: bool) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, Document):
        return build_document_schema(kind, has_defaults=has_defaults)
    origin: object = typing.get_origin(kind)
    if origin is tuple:
        items = _build_type(typing.get_args(kind)[0], setting, has_defaults=has_defaults)
        return _build_list(items, setting)
    if origin is Mapping:
        return _build_mapping(typing.get_args(kind)[1], setting)
    return build_scalar(kind, setting)


def _build_list(items: dict[str, Any], setting: Setting) -> dict[str, Any]:
    built: dict[str, Any] = {"type": "array", "items": items}
    built |= _given(minItems=setting.min_items, maxItems=setting.max_items)
    if setting.map_key:
        built |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [setting.map_key]}
    if setting.unique:
        # `x-kubernetes-list-type: set` would name the item, and would merge the lists of two appliers.
        rule = {"rule": "self.all(x, self.exists_one(y, y == x))", "message": "must not name anything twice"}
        built["x-kubernetes-validations"] = [rule]
    return built


def _build_mapping(item: rules.TypeForm, setting: Setting) -> dict[str, Any]:
    built: dict[str, Any] = {"type": "object"}
    built |= _given(maxProperties=setting.max_properties)
    if item is Any:
        # Not `preserve-unknown-fields` of the object itself: CEL's == in Kubernetes 1.34 then passes over keys that
        # the other object lacks, and {value: 1} equals {valueFrom: 1}.
        return built | {"additionalProperties": {"nullable": True, "x-kubernetes-preserve-unknown-fields": True}}
    return built | {"additionalProperties": build_scalar(item, setting)}


def build_scalar(kind: rules.TypeForm, setting: Setting) -> dict[str, Any]:
    """Build the schema of a boolean, number or string."""
    if kind is bool:
        return {"type": "boolean"}
    if kind is int:
        return {"type": "integer", "format": "int64"} | _bounds(setting)
    if kind is float:
        return {"type": "number"} | _bounds(setting)
    if setting.is_int_or_string:
        return {"x-kubernetes-int-or-string": True, "minimum": 0} | _string_rules(setting)
    return {"type": "string"} | _string_rules(setting)


def _bounds(setting: Setting) -> dict[str, Any]:
    bounds = _given(minimum=setting.minimum, maximum=setting.maximum)
    if setting.exclusive_minimum is not None:
        bounds |= {"minimum": setting.exclusive_minimum, "exclusiveMinimum": True}
    if setting.exclusive_maximum is not None:
        bounds |= {"maximum": setting.exclusive_maximum, "exclusiveMaximum": True}
    return bounds


def _string_rules(setting: Setting) -> dict[str, Any]:
    # An enum alone would not tell the API server's estimate of the cost of `unique` how long the strings get.
    longest_choice = max(map(len, setting.choices)) if setting.unique else None
    lengths = [length for length in (setting.max_length, setting.max_bytes, longest_choice) if length is not None]
    built = _given(maxLength=min(lengths, default=None))
    if setting.pattern is not None:
        built["pattern"] = f"^(?:{setting.pattern})$"
    if setting.choices:
        built["enum"] = list(setting.choices)
    validations = []
    if setting.max_bytes is not None:
        rule = f"size(bytes(self)) <= {setting.max_bytes}"
        validations.append({"rule": rule, "message": f"must be at most {setting.max_bytes} bytes long"})
    if setting.syntax:
        validations.append(_syntax_validation(setting.syntax))
    return built | ({"x-kubernetes-validations": validations} if validations else {})


def _syntax_validation(syntax: tuple[Syntax, ...]) -> dict[str, str]:
    """Build one validation that tells the first broken rule alone, as Python does."""
    message = _literal(f"must be {syntax[-1].rule}")
    for each in reversed(syntax[:-1]):
        message = f"!({_matches(each)}) ? {_literal(f'must be {each.rule}')} : {message}"
    return {"rule": " && ".join(map(_matches, syntax)), "messageExpression": message}


def _matches(syntax: Syntax) -> str:
    return f"{'!' if syntax.is_forbidden else ''}self.matches({_literal(f'^(?:{syntax.pattern})$')})"


def _literal(text: str) -> str:
    return json.dumps(text)  # a CEL string literal takes every escape of JSON


def _given(**keys: float | None) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}

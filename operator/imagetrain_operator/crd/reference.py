"""docs/manifest.md: every field of an ImageTrainingJob, from its declarations."""

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping

from imagetrain_api import job, names, rules, schema, status
from imagetrain_api.rules import Setting
from imagetrain_api.schema import Document, DocumentField

_HEAD = f"""\
# The manifest: `{names.KIND}`

<!-- Written by `make manifests` from api/imagetrain_api; a change belongs there. -->

`apiVersion: {names.API_VERSION}`, `kind: {names.KIND}`, short name `itj`. The same manifest runs on one machine
(`imagetrain run`) and on Kubernetes (`kubectl apply`). `imagetrain validate` and the API server know the same rules and
name the same field where one is broken. An unknown field is refused; an empty one counts as left out.
`kubectl explain itj.spec --recursive` shows the fields in a terminal.

`metadata.name` is {{name_rule}}, with at most {{name_length}} characters.

"""

_STATUS_HEAD = """\
# Status

The operator writes `status` on Kubernetes; `imagetrain run` shows the same on its display and writes none.

"""


@dataclasses.dataclass(frozen=True, slots=True)
class _Section:
    path: str
    cls: type[Document]
    doc: str


def build_reference() -> str:
    """Return the document."""
    (name,) = (field.setting for field in schema.document_fields(job.Metadata) if field.key == "name")
    head = _HEAD.format(name_rule=name.pattern_rule, name_length=name.max_length)
    spec = "".join(_section(section) for section in _sections("spec", job.JobSpec, "What to train."))
    told = "".join(_section(section) for section in _sections("status", status.JobStatus, "How far the job is."))
    return head + "# Spec\n\n" + spec + _STATUS_HEAD + told.rstrip("\n") + "\n"


def _sections(path: str, cls: type[Document], doc: str) -> Iterator[_Section]:
    """Yield a document and those inside it, in order."""
    yield _Section(path, cls, doc)
    for field in schema.document_fields(cls):
        inner, suffix = _inner_document(field)
        if inner is not None:
            yield from _sections(f"{path}.{field.key}{suffix}", inner, field.setting.doc)


def _inner_document(field: DocumentField) -> tuple[type[Document] | None, str]:
    kind, is_list = _item_type(field)
    is_document = isinstance(kind, type) and issubclass(kind, Document)
    return (kind, "[]" if is_list else "") if is_document else (None, "")


def _item_type(field: DocumentField) -> tuple[rules.TypeForm, bool]:
    """Return the type of a field or of its items, and whether it is a list."""
    kind = rules.without_none(field.type)
    origin: object = typing.get_origin(kind)
    return (typing.get_args(kind)[0], True) if origin is tuple else (kind, False)


def _section(section: _Section) -> str:
    rows = "".join(_row(section.path, field) for field in schema.document_fields(section.cls))
    kept = [f"- `{schema.field_path(rule.field)}` must {rule.rule}.\n" for rule in section.cls.RULES]
    fixed = [f"- `{schema.field_path(rule.field)}` must {rule.rule}.\n" for rule in section.cls.TRANSITIONS]
    text = f"## `{section.path}`\n\n{section.doc}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n{rows}\n"
    if kept:
        text += "Rules:\n\n" + "".join(kept) + "\n"
    if fixed:
        text += "In an existing job:\n\n" + "".join(fixed) + "\n"
    return text


def _row(path: str, field: DocumentField) -> str:
    setting = field.setting
    meaning = " ".join(part for part in (setting.doc, _limits(setting)) if part)
    return f"| `{field.key}` | {_type(path, field)} | {_default(field)} | {_cell(meaning)} |\n"


def _type(path: str, field: DocumentField) -> str:
    kind, is_list = _item_type(field)
    return f"list of {_type_word(kind, path, field)}s" if is_list else _type_word(kind, path, field)


def _type_word(kind: rules.TypeForm, path: str, field: DocumentField) -> str:
    if isinstance(kind, type) and issubclass(kind, Document):
        return f"[object](#{_anchor(f'{path}.{field.key}')})"
    origin: object = typing.get_origin(kind)
    if origin is Mapping:
        value = "quantities" if field.setting.is_int_or_string else "strings"
        return f"object of {value}" if typing.get_args(kind)[1] is str else "object"
    return {bool: "boolean", int: "integer", float: "number", str: "string"}[kind]


def _anchor(path: str) -> str:
    """Return the fragment that GitHub makes of a heading."""
    return "".join(character for character in path.lower() if character.isalnum())


def _default(field: DocumentField) -> str:
    if field.is_required:
        return "required"
    if field.default is None:
        return ""
    if isinstance(field.default, Document):
        return "its defaults"
    return f"`{json.dumps(schema.encode_value(field.default))}`"


def _limits(setting: Setting) -> str:
    parts = [*_string_limits(setting), *_number_limits(setting)]
    if setting.min_items is not None and setting.min_items == setting.max_items:
        parts.append(f"exactly {setting.min_items} items")
    elif setting.max_items is not None:
        parts.append(f"at most {setting.max_items} items")
    if setting.max_properties is not None:
        parts.append(f"at most {setting.max_properties} keys")
    if setting.unique:
        parts.append("none twice")
    return f"({'; '.join(parts)})" if parts else ""


def _string_limits(setting: Setting) -> Iterator[str]:
    if setting.choices:
        yield "one of " + ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.pattern_rule:
        yield setting.pattern_rule
    if setting.syntax:
        yield setting.syntax[0].rule
    if setting.max_length is not None:
        yield f"at most {setting.max_length} characters"
    if setting.max_bytes is not None:
        yield f"at most {setting.max_bytes} bytes"


def _number_limits(setting: Setting) -> Iterator[str]:
    if setting.minimum is not None and setting.maximum is not None:
        yield f"{setting.minimum} to {setting.maximum}"
        return
    for word, bound in (
        ("at least", setting.minimum),
        ("more than", setting.exclusive_minimum),
        ("at most", setting.maximum),
        ("less than", setting.exclusive_maximum),
    ):
        if bound is not None:
            yield f"{word} {bound}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

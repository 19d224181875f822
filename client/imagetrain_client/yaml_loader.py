"""YAML 1.2 for manifests: a safe loader that reads scalars as JSON does and refuses duplicate keys.

PyYAML implements YAML 1.1, where `1e-3` is a string, `010` is eight, `1:30` is ninety and `no` is false.
What a manifest means is not known here.
"""

import re
from typing import Any

import yaml

MAX_VALUES = 20_000  # a manifest has some dozens

# YAML 1.2.2, section 10.3.2 "Tag Resolution" (core schema), and the merge key that Kubernetes tools accept too.
_RESOLVERS = (
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own spelling

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag.endswith(":merge"):
                continue
            line = key_node.start_mark.line + 1
            if key_node.value in first_lines:
                problem = f"duplicate key {key_node.value!r}, first given on line {first_lines[key_node.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            first_lines[key_node.value] = line
        return super().construct_mapping(node, deep=deep)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.lower().startswith(("0o", "0x")) else int(text)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def parse_value(text: str) -> object:
    """Return the value of one YAML document.

    Raises:
        yaml.YAMLError: it is not YAML, or not safe.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader


def parse_documents(text: str) -> list[tuple[object, dict[str, int]]]:
    """Return each document of a YAML stream with the line on which each dotted path stands.

    Raises:
        yaml.YAMLError: it is not YAML, not safe, or gives a key twice.
    """
    loader = _Loader(text)
    documents = []
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            lines: dict[str, int] = {}
            _note_lines(node, "", lines)
            documents.append((loader.construct_document(node), lines))
    finally:
        loader.dispose()
    return documents


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    if len(lines) >= MAX_VALUES:  # aliases of aliases grow without bound ("billion laughs"), recursive ones have no end
        raise yaml.MarkedYAMLError(problem=f"more than {MAX_VALUES} values stand", problem_mark=node.start_mark)
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = f"{path}.{key.value}" if path else key.value
                lines[inner] = key.start_mark.line + 1
                _note_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{path}[{index}]", lines)

import math

import pytest
import yaml

from imagetrain_client import yaml_loader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),  # eight in YAML 1.1
        ("0o17", 15),
        ("0x1F", 31),
        ("+7", 7),
        ("1:30", "1:30"),  # ninety in YAML 1.1
        ("1_000", "1_000"),
        ("no", "no"),  # false in YAML 1.1
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("2026-11-24", "2026-11-24"),  # a date in YAML 1.1
        ("'1e-3'", "1e-3"),
        ("-.INF", -math.inf),
        ("[28, 28, 1]", [28, 28, 1]),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
    ],
)
def test_scalars_are_read_as_yaml_1_2_does(text, value):
    assert yaml_loader.parse_value(text) == value
    assert type(yaml_loader.parse_value(text)) is type(value)


def test_not_a_number_is_read():
    assert math.isnan(yaml_loader.parse_value(".nan"))


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "{a: 1, a: 2}",
        "{a: {b: 1, 'b': 2}}",
        "[1, 2",
        "a: *nothing",
        "? [1]\n: 2",
        "? {a: 1}\n: 2",
    ],
)
def test_what_is_unsafe_or_ambiguous_is_refused(text):
    with pytest.raises(yaml.YAMLError):
        yaml_loader.parse_value(text)


def test_lines_of_paths_are_found():
    ((document, lines),) = yaml_loader.parse_documents("a: 1\nb:\n  c: [1,\n    2]\n  d: {e: 3}\n")
    assert document == {"a": 1, "b": {"c": [1, 2], "d": {"e": 3}}}
    assert [lines[path] for path in ("a", "b", "b.c", "b.c[1]", "b.d.e")] == [1, 2, 3, 4, 5]


def test_aliases_that_multiply_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(yaml.YAMLError, match="values"):
        yaml_loader.parse_documents("\n".join(lines))


def test_aliases_without_end_are_refused():
    with pytest.raises((yaml.YAMLError, RecursionError)):
        yaml_loader.parse_documents("a: &a {b: *a}")

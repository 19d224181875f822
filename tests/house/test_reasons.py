"""Every reason that a status may show is explained in the documents."""

import ast
import pathlib
import re

import pytest

from imagetrain_api import exit_codes

ROOT = pathlib.Path(__file__).parents[2]
PLAN = ROOT / "operator" / "imagetrain_operator" / "plan"
DOCUMENT = (ROOT / "docs" / "operator.md").read_text()
# Answers of conditions that never become the state of a job, and parts of other sentences.
NOT_STATES = {"ValidSpec", "Published", "Resumed", "Suspended", "Suspending", "TrainingCompleted"}


def reasons_in_code() -> set[str]:
    """Return the CamelCase words that are given as a reason, by keyword or in the position of one."""
    found = set()
    for path in PLAN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            position = {"set_state": 1, "set_condition": 2, "fail": 1, "_disrupted": 1, "_refusal": 1}.get(name)
            if position is not None and len(node.args) > position:
                given.append(node.args[position])
            found |= {value.value for value in given if isinstance(value, ast.Constant) and value.value}
    return {str(word) for word in found if re.fullmatch(r"[A-Z][A-Za-z]+", str(word))}


def test_the_reasons_are_found() -> None:
    assert {"Unschedulable", "NodeLost", "DeadlineExceeded", "MaxRestartsExceeded"} <= reasons_in_code()


@pytest.mark.parametrize(
    "reason", sorted(reasons_in_code() - NOT_STATES - {each.reason for each in exit_codes.OUTCOMES.values()})
)
def test_reason_is_in_the_table(reason: str) -> None:
    assert re.search(rf"\| (\w+, )*{reason}(, \w+)* \|", DOCUMENT)

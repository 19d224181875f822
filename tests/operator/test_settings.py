"""The options of the operator's command that are more than a number."""

from typing import Any

import click.testing
import pytest

from imagetrain_operator import main

KEYS = ("aws-node-termination-handler/spot-itn", "ToBeDeletedByClusterAutoscaler")


def parse(*arguments: str) -> dict[str, Any]:
    return main.main.make_context("imagetrain-operator", ["--all-namespaces", *arguments]).params


def test_nodes_are_not_watched_unasked() -> None:
    assert parse()["node_notice_taints"] == ()


def test_taints_come_from_repeated_options_or_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(*(f"--node-notice-taint={key}" for key in KEYS))["node_notice_taints"] == KEYS
    monkeypatch.setenv("IMAGETRAIN_OPERATOR_NODE_NOTICE_TAINTS", "\n".join(KEYS))
    assert parse()["node_notice_taints"] == KEYS


@pytest.mark.parametrize("key", ["spot=true:NoSchedule", "a/b/c", "", "-spot", "Cloud.example/x", "spot itn"])
def test_what_is_no_key_of_a_taint_is_refused(key: str) -> None:
    arguments = ["--all-namespaces", f"--node-notice-taint={key}"]
    result = click.testing.CliRunner().invoke(main.main, arguments)
    assert result.exit_code == 2
    assert "node notice taint must be the key of a taint, without value and effect, got" in result.output

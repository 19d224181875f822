"""What a run says where no cluster can be brought up: here because the programs are missing."""

import os
import pathlib
import subprocess
import sys

import pytest

from imagetrain_cluster import cluster, pytest_plugin

TESTS = """
def test_one(cluster): pass
def test_two(namespace): pass
def test_three(kubernetes_api): pass
def test_four(): pass
"""


def run_tests(folder: pathlib.Path, **environment: str) -> str:
    (folder / "test_it.py").write_text(TESTS, encoding="utf-8")
    words = [
        "-c",
        os.devnull,
        f"--rootdir={folder}",
        "-p",
        "imagetrain_cluster.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGETRAIN_")}
    package = {"PYTHONPATH": str(pathlib.Path(cluster.__file__).parents[1]), "XDG_CACHE_HOME": str(folder)}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(folder)],
        env=kept | package | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return result.stdout


def test_skipped_tests_are_told_loudly_at_the_end(tmp_path):
    output = run_tests(tmp_path)

    assert "1 passed, 3 skipped" in output
    title, told, hint, _counts = [line for line in output.splitlines() if line][-4:]
    assert "NOT TESTED ON KUBERNETES" in title
    assert told.startswith("3 tests were skipped: ")
    assert f"{pytest_plugin.KUBECONFIG_VARIABLE}=" in hint


def test_required_cluster_that_cannot_be_is_a_failure(tmp_path):
    output = run_tests(tmp_path, IMAGETRAIN_REQUIRE_CLUSTER="1")

    assert "1 passed, 3 errors" in output
    assert "IMAGETRAIN_REQUIRE_CLUSTER=1 requires a cluster, but " in output


@pytest.mark.parametrize("required", ["0", "1"])
def test_named_cluster_serves_the_tests_that_need_the_api_alone(tmp_path, required):
    output = run_tests(tmp_path, IMAGETRAIN_TEST_KUBECONFIG="/some/config", IMAGETRAIN_REQUIRE_CLUSTER=required)

    assert "2 passed, 2 skipped" in output
    assert "2 tests were skipped: IMAGETRAIN_TEST_KUBECONFIG names a cluster whose machines" in output

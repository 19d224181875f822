"""Fixtures for tests that need Kubernetes, and a loud word at the end of a run that had none.

`IMAGETRAIN_TEST_KUBECONFIG` names a cluster to use (kind, k3s, GKE ...): for the tests that need no more than its API.
Without it a run on Linux as root brings up its own. Where neither is possible the tests are skipped, and with
`IMAGETRAIN_REQUIRE_CLUSTER=1` they fail.
"""

import collections.abc
import os
import pathlib
import secrets
import sys
from typing import NoReturn

import pytest

from imagetrain_cluster import access, cluster, tools

KUBECONFIG_VARIABLE = "IMAGETRAIN_TEST_KUBECONFIG"
REQUIRE_VARIABLE = "IMAGETRAIN_REQUIRE_CLUSTER"

_NODES = 2
_HINT = f"They run as root on Linux, those of the API alone also with {KUBECONFIG_VARIABLE}=FILE: docs/testing.md"
_SKIPPED = pytest.StashKey[dict[str, set[str]]]()
"""Why tests were skipped for want of a cluster: the tests."""


_LOGS = pytest.StashKey[pathlib.Path]()
"""Logs of this run's cluster, when a test failed."""


def pytest_configure(config: pytest.Config) -> None:
    """Start the account of skipped tests."""
    config.stash[_SKIPPED] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost wrapper has the last word
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> collections.abc.Generator[None]:
    """Say at the end what was not tested, and how it would be; and where the logs of failed tests are."""
    yield
    if config.stash.get(_LOGS, None):
        terminalreporter.line(f"Logs of the cluster (kept for a day): {config.stash[_LOGS]}")
    for reason, tests in config.stash[_SKIPPED].items():
        terminalreporter.section("NOT TESTED ON KUBERNETES", sep="!", red=True, bold=True)
        terminalreporter.line(f"{len(tests)} tests were skipped: {reason}.", red=True, bold=True)
        terminalreporter.line(_HINT, red=True, bold=True)


def _skip(request: pytest.FixtureRequest, reason: str) -> NoReturn:
    """Skip the test and keep account of it; fail it where a cluster is required and none is named."""
    if os.environ.get(REQUIRE_VARIABLE) == "1" and not os.environ.get(KUBECONFIG_VARIABLE):
        pytest.fail(f"{REQUIRE_VARIABLE}=1 requires a cluster, but {reason}.", pytrace=False)
    skipped = {request.node.nodeid}
    if request.scope == "session":  # it is asked once for all tests that need it
        name = request.fixturename
        skipped = {item.nodeid for item in request.session.items if name in getattr(item, "fixturenames", ())}
    request.config.stash[_SKIPPED].setdefault(reason, set()).update(skipped)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def _own_cluster(request: pytest.FixtureRequest) -> collections.abc.Iterator[cluster.Cluster | str]:
    """Bring up this run's cluster when the first test wants it; else say why there is none."""
    reason = "this is not Linux" if sys.platform != "linux" else tools.missing(nodes=_NODES)
    if os.environ.get(KUBECONFIG_VARIABLE):
        reason = f"{KUBECONFIG_VARIABLE} names a cluster whose machines these tests cannot use"
    if reason:
        yield reason
        return
    cluster.sweep()
    folder = cluster.HOME / f"test-{secrets.token_hex(4)}"
    brought_up = cluster.Cluster.up(folder, nodes=_NODES, owner=os.getpid())
    yield brought_up
    failed = request.session.testsfailed > 0
    brought_up.down(keep_logs=failed)
    if failed:
        request.config.stash[_LOGS] = brought_up.logs


@pytest.fixture(name="cluster")
def cluster_fixture(request: pytest.FixtureRequest, _own_cluster: cluster.Cluster | str) -> cluster.Cluster:
    """Return the cluster of this run: two nodes, one GPU each, whose machines the test may use and harm.

    A test that stops a part of it starts that part again. Nodes other than the first may be killed.
    """
    if isinstance(_own_cluster, str):
        _skip(request, _own_cluster)
    return _own_cluster


@pytest.fixture(scope="session")
def cluster_of_session(request: pytest.FixtureRequest, _own_cluster: cluster.Cluster | str) -> cluster.Cluster:
    """Return the same cluster, for fixtures that live longer than a test."""
    if isinstance(_own_cluster, str):
        _skip(request, _own_cluster)
    return _own_cluster


@pytest.fixture
def kubernetes_api(request: pytest.FixtureRequest) -> access.Access:
    """Return an administrator's access to some cluster: the one that is named, or this run's own."""
    named = os.environ.get(KUBECONFIG_VARIABLE)
    if named:
        return access.Access(pathlib.Path(named).expanduser())
    found: access.Access = request.getfixturevalue("cluster")
    return found


@pytest.fixture
def namespace(cluster: cluster.Cluster) -> collections.abc.Iterator[str]:
    """Make a namespace that enforces `restricted` and holds the claim `host-files`; return its name."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.create_namespace(name)
    yield name
    cluster.delete_namespace(name)


@pytest.fixture
def plain_namespace(kubernetes_api: access.Access) -> collections.abc.Iterator[str]:
    """Make an ordinary namespace, in whichever cluster; return its name."""
    name = f"test-{secrets.token_hex(4)}"
    kubernetes_api.kubectl("create", "namespace", name)
    yield name
    kubernetes_api.kubectl("delete", "namespace", name, "--wait=false")

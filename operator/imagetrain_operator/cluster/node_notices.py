"""The nodes that are about to be taken away, kept by a watch of all nodes; of the others nothing is kept.

Only an operator that was told which taints are notices has it, for it needs a right of the whole cluster.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterable

from imagetrain_operator import observed, paths
from imagetrain_operator.cluster import client, errors, watch
from imagetrain_operator.plan import node_notices

logger = logging.getLogger(__name__)

_COMPONENT = "manifests/components/node-notices"
_FORBIDDEN = 403


class NodeNotices(watch.Watch):
    """The notices by node.

    Args:
        api: the client.
        taints: keys of the taints that are notices.
        on_notice: told the name of a node of which there is a new notice.
        count_event: told of each event.
    """

    def __init__(
        self,
        api: client.ApiClient,
        taints: Iterable[str],
        on_notice: Callable[[str], None],
        count_event: Callable[[], None],
    ) -> None:
        super().__init__(api, paths.nodes(), {}, count_event)
        self._taints = frozenset(taints)
        self._on_notice = on_notice
        self._notices: dict[str, observed.NodeNotice] = {}
        self._uids: dict[str, str] = {}
        self._is_refused = False

    def of_nodes(self, nodes: Iterable[str]) -> tuple[observed.NodeNotice, ...]:
        """Return the notices of some nodes."""
        if not self._notices:
            return ()
        return tuple(self._notices[node] for node in sorted(set(nodes)) if node in self._notices)

    def _report(self, error: errors.ClusterError, delay: float) -> None:
        """Log a missing right once: everything else goes on without it."""
        if error.code != _FORBIDDEN:
            super()._report(error, delay)
        elif not self._is_refused:
            self._is_refused = True
            logger.error(
                "nodes cannot be watched, so their notices are not read: the operator's ServiceAccount needs the "
                "rights list and watch on nodes, which %s gives; trying again until it has them (%s)",
                _COMPONENT,
                error,
            )

    def _store(self, raw: observed.RawObject) -> bool:
        node, uid = raw["metadata"]["name"], raw["metadata"]["uid"]
        if self._uids.get(node) != uid:  # another machine under the same name
            self._forget(node)
        known = self._notices.get(node)
        notice = node_notices.read_notice(raw, self._taints, known, dt.datetime.now(dt.UTC))
        if notice is None:
            self._forget(node)
            return False
        self._notices[node], self._uids[node] = notice, uid
        if notice != known:
            logger.info("node %s is about to be taken away (%s)", node, notice.cause)
            self._on_notice(node)
        return True

    def _drop(self, raw: observed.RawObject) -> None:
        self._forget(raw["metadata"]["name"])

    def _drop_others(self, kept: set[watch.ObjectName]) -> None:
        if self._is_refused:
            self._is_refused = False
            logger.info("nodes are watched now, and their notices are read")
        for node in [node for node in self._notices if watch.ObjectName("", node) not in kept]:
            self._forget(node)

    def _forget(self, node: str) -> None:
        self._notices.pop(node, None)
        self._uids.pop(node, None)

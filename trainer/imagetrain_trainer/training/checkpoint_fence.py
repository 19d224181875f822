"""Which generation of a run may write checkpoints: one small object, taken over by a conditional PUT. No TensorFlow.

`checkpoints/fence.json` names the newest generation and, for each one, the step that it went on from. That decides
which checkpoints count, whatever an older generation may still write:

    a checkpoint of generation g at step s counts when every later generation went on from step s or a later one.

So what a writer of an old generation completes after its successor has begun is either older than what that one went on
from, or does not count at all: it does no harm that one looks at the fence first and writes the manifest then.

A generation takes the fence first, then looks for the newest checkpoint, then writes down its step. So a writer that
still finds the fence its own when its manifest is written may delete older checkpoints: its successor sees that one.
"""

import dataclasses
import hashlib
import json
import secrets
from typing import Any

from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage
from imagetrain_trainer.storage import whole_reads
from imagetrain_trainer.training import checkpoint_manifest

FENCE_KEY = "fence.json"
SCHEMA_VERSION = 1
_MOST_REMEMBERED = 1000  # generations and supervisors; what they could still write is deleted long before


@dataclasses.dataclass(frozen=True, slots=True)
class Branch:
    """A generation, and the step that it went on from."""

    generation: int
    resumed_step: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The document.

    Attributes:
        generation: newest generation; 0 before the first.
        token: random, of the training process that took the fence.
        branches: generations after which older checkpoints do not count; steps and generations grow.
        holders: incarnations of the supervisors that held the fence, each once, the newest last.
    """

    generation: int = 0
    token: str = ""
    branches: tuple[Branch, ...] = ()
    holders: tuple[str, ...] = ()

    def counts(self, place: checkpoint_manifest.Place) -> bool:
        """Tell whether a checkpoint is on the line of the run, and not on a branch that was given up."""
        return all(
            place.step <= branch.resumed_step for branch in self.branches if branch.generation > place.generation
        )

    def advance(self, generation: int, *, token: str, holder: str) -> "Fence":
        """Return the fence of a new generation, which does not know yet where it goes on from.

        Args:
            generation: its number, where that is above the newest one's; else the next number is taken.
            token: of its training process.
            holder: incarnation of its supervisor.
        """
        holders = [name for name in self.holders if name != holder]
        return dataclasses.replace(
            self,
            generation=max(generation, self.generation + 1),
            token=token,
            holders=(*holders, holder)[-_MOST_REMEMBERED:],
        )

    def branch(self, resumed_step: int) -> "Fence":
        """Return the fence once its generation knows the step that it goes on from."""
        # A branch that goes on from a later step says nothing any more beside one that goes on from an earlier step.
        kept = [branch for branch in self.branches if branch.resumed_step < resumed_step]
        return dataclasses.replace(self, branches=(*kept, Branch(self.generation, resumed_step))[-_MOST_REMEMBERED:])

    def encode(self) -> bytes:
        """Return the document."""
        document = {
            "schemaVersion": SCHEMA_VERSION,
            "generation": self.generation,
            "token": self.token,
            "branches": [[branch.generation, branch.resumed_step] for branch in self.branches],
            "holders": list(self.holders),
        }
        return json.dumps({**document, "sha256": _digest(document)}, sort_keys=True).encode()


class FenceKeeper:
    """Reads, takes and checks the fence of one run."""

    def __init__(self, checkpoints_store: storage.ObjectStore) -> None:
        self._store = checkpoints_store
        self._etag: str | None = None
        self.held: Fence | None = None

    def read(self) -> Fence:
        """Return the fence as it is.

        Raises:
            DataCorruptError: the object is no fence.
        """
        uri = self._store.uri_of(FENCE_KEY)
        try:
            return whole_reads.read_whole(lambda: _decode(self._store.get(FENCE_KEY), uri))
        except errors.ObjectNotFoundError:
            return Fence()

    def take(self, generation: int, holder: str) -> Fence:
        """Begin a generation; from now on older ones are fenced.

        Args:
            generation: its number among the starts of its supervisor.
            holder: incarnation of its supervisor.

        Raises:
            FencedError: another supervisor took over from this one, or another group began at the same moment.
        """
        try:
            etag = self._store.head(FENCE_KEY).etag  # before the read: what changes in between fails the write
        except errors.ObjectNotFoundError:
            etag = None
        found = self.read()
        if holder in found.holders[:-1]:
            raise self._fenced(found)
        return self._replace(etag, found.advance(generation, token=secrets.token_hex(8), holder=holder))

    def branch(self, resumed_step: int) -> Fence:
        """Write down the step that this generation goes on from; before this it may write no checkpoint.

        Raises:
            FencedError: a newer generation has begun meanwhile.
        """
        if self.held is None:
            raise RuntimeError("the fence must be taken before the generation branches off")
        return self._replace(self._etag, self.held.branch(resumed_step))

    def check(self) -> None:
        """Look whether this generation is still the newest.

        Raises:
            FencedError: it is not; nothing that it writes counts any more.
        """
        if self.held is not None and (found := self.read()).token != self.held.token:
            raise self._fenced(found)

    def _replace(self, etag: str | None, fence: Fence) -> Fence:
        try:
            self._etag = self._write(fence, etag)
        except errors.ObjectExistsError as error:
            if (found := self.read()) != fence:  # else the answer to our own write was lost, and it was sent again
                raise self._fenced(found) from error
            self._etag = self._store.head(FENCE_KEY).etag
        self.held = fence
        return fence

    def _write(self, fence: Fence, etag: str | None) -> str | None:
        data, kind = fence.encode(), "application/json"
        if etag is None:
            return self._store.put(FENCE_KEY, data, only_if_absent=True, content_type=kind).etag
        return self._store.put_if_match(FENCE_KEY, data, etag, content_type=kind).etag

    def _fenced(self, found: Fence) -> errors.FencedError:
        mine = f"generation {self.held.generation}" if self.held else "this worker group"
        return errors.FencedError(
            f"{self._store.uri_of(FENCE_KEY)} is held by generation {found.generation}, so {mine} may write no more "
            "checkpoints: another worker group goes on with the run. Nothing is lost."
        )


def _digest(document: dict[str, Any]) -> str:
    """Return the digest of a document without its digest: a wrong fence would end a run that is well."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _decode(data: bytes, uri: str) -> Fence:
    try:
        document: dict[str, Any] = json.loads(data)
        if document["schemaVersion"] > SCHEMA_VERSION:
            raise errors.DataCorruptError(
                f"{uri} has schemaVersion {document['schemaVersion']}; this version reads up to {SCHEMA_VERSION}."
            )
        if document.pop("sha256") != _digest(document):
            raise errors.DataCorruptError(f"{uri} does not match its own digest.")
        return Fence(
            generation=int(document["generation"]),
            token=str(document["token"]),
            branches=tuple(Branch(int(generation), int(step)) for generation, step in document["branches"]),
            holders=tuple(str(name) for name in document["holders"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.DataCorruptError(f"{uri} is no fence of a run's checkpoints: {error}") from error

"""The manifest that makes a checkpoint visible, and the keys around it. Standard library alone.

    checkpoints/step-000000001234/g000003/state-00000-of-00002.safetensors   named arrays, a share each
    checkpoints/step-000000001234/g000003/manifest.json                      written last

`g000003` is the generation that wrote it, so two generations never write the same key. Version 1 had neither that
folder nor shares; it is still read.

A reader takes a manifest of a newer version whose `readableBy` is not above its own, and passes over keys that it does
not know. So a version that only adds something keeps `readableBy`, and older programs go on reading. From version 3 on
`digest` is the SHA-256 of all the rest, so that no damaged manifest is taken for a whole one.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from imagetrain_trainer import errors

SCHEMA_VERSION = 3
MANIFEST_KEY = "manifest.json"
_OLDEST_READABLE = 1
_READABLE_BY = 2  # programs of version 2 pass over the digest
_DIGESTED = 3  # the first version that has one
_FOLDER = re.compile(r"step-(\d{12})(?:/g(\d{6}))?")
_STATE_KEY_V1 = "state.safetensors"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which checkpoint: places compare as checkpoints do, the newest last.

    Attributes:
        step: global steps finished.
        generation: that wrote it; 0 for version 1, which has none.
    """

    step: int
    generation: int

    @property
    def folder(self) -> str:
        """The checkpoint's folder below the checkpoints."""
        step = f"step-{self.step:012d}"
        return f"{step}/g{self.generation:06d}" if self.generation else step


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One object of a state.

    Attributes:
        key: below the checkpoint's folder.
        size_bytes, sha256: of its bytes.
    """

    key: str
    size_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is known of a checkpoint beside its arrays.

    Attributes:
        place: its step and generation.
        job: name of the job, for whoever looks for a run to resume.
        workers: size of the group that wrote it.
        shards: the objects that together hold the arrays.
        host: JSON-able state that is not in variables.
        created_at: Unix time; 0 where version 1 did not say.
    """

    place: Place
    job: str
    workers: int
    shards: tuple[Shard, ...]
    host: dict[str, Any]
    created_at: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Bytes of the state."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def digest(self) -> str:
        """One SHA-256 over the digests of all shards: two checkpoints with the same one have the same arrays."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def encode(self) -> bytes:
        """Return the document."""
        document = {
            "schemaVersion": SCHEMA_VERSION,
            "readableBy": _READABLE_BY,
            "job": self.job,
            "step": self.place.step,
            "generation": self.place.generation,
            "workers": self.workers,
            "createdAt": self.created_at,
            "sizeBytes": self.size_bytes,
            "shards": [
                {"key": shard.key, "sizeBytes": shard.size_bytes, "sha256": shard.sha256} for shard in self.shards
            ],
            "host": self.host,
        }
        return json.dumps({**document, "digest": _digest(document)}, sort_keys=True).encode()


def state_key(index: int, shards: int) -> str:
    """Return the key of a share of the state, below the checkpoint's folder."""
    return f"state-{index:05d}-of-{shards:05d}.safetensors"


def parse_place(folder: str) -> Place | None:
    """Return which checkpoint a folder holds, or None where it is no checkpoint's."""
    match = _FOLDER.fullmatch(folder)
    return Place(int(match[1]), int(match[2] or 0)) if match else None


def decode_manifest(data: bytes, uri: str) -> Manifest:
    """Parse a manifest of any readable version.

    Raises:
        DataCorruptError: it is none, or of a version that this program cannot read; the message names `uri`.
    """
    try:
        document = json.loads(data)
        version = document["schemaVersion"]
        needed = document.get("readableBy", version)
        if not _OLDEST_READABLE <= needed <= SCHEMA_VERSION:
            raise errors.DataCorruptError(
                f"{uri} has schemaVersion {version}, readable by {needed}; this version reads up to {SCHEMA_VERSION}."
            )
        if version >= _DIGESTED or "digest" in document:
            _check_digest(document, uri)
        return _decode_v1(document) if version == 1 else _decode(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.DataCorruptError(f"{uri} is no checkpoint manifest: {error}") from error


def _digest(document: Mapping[str, Any]) -> str:
    """Return the digest of a document that holds none: of its content, in whatever form it was sent."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _check_digest(document: Mapping[str, Any], uri: str) -> None:
    rest = {key: value for key, value in document.items() if key != "digest"}
    if document["digest"] != _digest(rest):
        raise errors.DataCorruptError(f"{uri} does not match its own digest.")


def _decode(document: Mapping[str, Any]) -> Manifest:
    shards = tuple(
        Shard(key=_plain_name(shard["key"]), size_bytes=int(shard["sizeBytes"]), sha256=str(shard["sha256"]))
        for shard in document["shards"]
    )
    if not shards:
        raise ValueError("it names no state")
    return Manifest(
        place=Place(int(document["step"]), int(document["generation"])),
        job=str(document["job"]),
        workers=int(document["workers"]),
        shards=shards,
        host=dict(document["host"]),
        created_at=float(document["createdAt"]),
    )


def _decode_v1(document: Mapping[str, Any]) -> Manifest:
    shard = Shard(key=_STATE_KEY_V1, size_bytes=int(document["sizeBytes"]), sha256=str(document["sha256"]))
    return Manifest(
        place=Place(int(document["step"]), 0),
        job=str(document.get("job", "")),
        workers=1,
        shards=(shard,),
        host=dict(document["host"]),
    )


def _plain_name(key: str) -> str:
    """Return a shard's key; one that leaves its folder is no shard's."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", key) or key.startswith("."):
        raise ValueError(f"a shard must be named by letters, digits, dots and hyphens, got {key[:80]!r}")
    return key

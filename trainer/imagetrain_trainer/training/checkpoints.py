"""Checkpoints in object storage: a state object, then a manifest that makes it visible. No TensorFlow here.

Layout under the run's prefix:

    checkpoints/step-000000001234/state.safetensors   named arrays (safetensors: no code in it, bounds checked)
    checkpoints/step-000000001234/manifest.json       written last: step, size, SHA-256, host state

A checkpoint whose manifest is missing does not exist. Loading checks the digest and falls back to the one before.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.numpy
from numpy import typing as npt

from imagetrain_api import names
from imagetrain_trainer import errors
from imagetrain_trainer.storage import store as storage

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
STATE_KEY = "state.safetensors"
MANIFEST_KEY = "manifest.json"
_PREFIX = "step-"
_DIGITS = 12

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State of a run after `step` global steps.

    Attributes:
        step: global steps finished.
        arrays: every variable of model and optimizer by name.
        host: JSON-able state that is not in variables (policies, history, figures of the running epoch).
    """

    step: int
    arrays: Arrays
    host: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run; written by the chief, read by every worker."""

    def __init__(self, run_store: storage.ObjectStore, *, keep: int, job: str = "") -> None:
        """Open the checkpoints.

        Args:
            run_store: rooted at the run's prefix.
            keep: newest checkpoints to keep.
            job: name of the job, for whoever looks for a run to resume.
        """
        self._store = run_store.child(names.CHECKPOINTS_PREFIX)
        self._keep = keep
        self._job = job

    def save(self, checkpoint: Checkpoint, *, best_step: int | None = None) -> None:
        """Write a checkpoint, then delete what is neither among the newest `keep` nor the best.

        A step that has a complete checkpoint already is left as it is.

        Raises:
            StorageError, DiskFullError: the storage refused; what was complete before still is.
        """
        folder = _folder(checkpoint.step)
        if not self._store.exists(f"{folder}/{MANIFEST_KEY}"):
            state = safetensors.numpy.save({key: array.copy(order="C") for key, array in checkpoint.arrays.items()})
            self._store.put(f"{folder}/{STATE_KEY}", state)
            manifest = {
                "schemaVersion": SCHEMA_VERSION,
                "job": self._job,
                "step": checkpoint.step,
                "sizeBytes": len(state),
                "sha256": hashlib.sha256(state).hexdigest(),
                "host": checkpoint.host,
            }
            text = json.dumps(manifest, sort_keys=True).encode()
            self._store.put(f"{folder}/{MANIFEST_KEY}", text, content_type="application/json")
        self._collect_garbage(best_step)

    def steps(self) -> list[int]:
        """Return the steps that have a complete checkpoint, in order."""
        return sorted(
            int(info.key.split("/")[0].removeprefix(_PREFIX))
            for info in self._store.list()
            if info.key.startswith(_PREFIX) and info.key.endswith(f"/{MANIFEST_KEY}")
        )

    def load_newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None where there is none.

        Raises:
            DataCorruptError: there are checkpoints, and every one is damaged.
        """
        steps = self.steps()
        damage: errors.TrainerError | None = None
        for step in reversed(steps):
            try:
                return self.load(step)
            except (errors.DataCorruptError, errors.ObjectNotFoundError) as error:
                logger.warning("Checkpoint passed over: %s", error)
                damage = error
        if damage is not None:
            raise errors.DataCorruptError(f"Every checkpoint below {self._store.uri} is damaged; the last: {damage}")
        return None

    def load(self, step: int) -> Checkpoint:
        """Return the checkpoint of a step.

        Raises:
            ObjectNotFoundError: there is none.
            DataCorruptError: its bytes do not match its manifest, or it is of a newer format.
        """
        folder = _folder(step)
        manifest = self._load_manifest(f"{folder}/{MANIFEST_KEY}")
        key = f"{folder}/{STATE_KEY}"
        state = self._store.get(key)
        if hashlib.sha256(state).hexdigest() != manifest["sha256"]:
            raise errors.DataCorruptError(f"{self._store.uri_of(key)} does not match the digest in its manifest.")
        try:
            arrays = safetensors.numpy.load(state)
        except safetensors.SafetensorError as error:
            raise errors.DataCorruptError(f"{self._store.uri_of(key)} is no safetensors file: {error}") from error
        return Checkpoint(step=manifest["step"], arrays=arrays, host=manifest["host"])

    def _load_manifest(self, key: str) -> dict[str, Any]:
        uri = self._store.uri_of(key)
        try:
            manifest: dict[str, Any] = json.loads(self._store.get(key))
            version = manifest["schemaVersion"]
        except (ValueError, KeyError, TypeError) as error:
            raise errors.DataCorruptError(f"{uri} is no checkpoint manifest: {error}") from error
        if version != SCHEMA_VERSION:
            raise errors.DataCorruptError(f"{uri} has schemaVersion {version}; this version reads {SCHEMA_VERSION}.")
        return manifest

    def _collect_garbage(self, best_step: int | None) -> None:
        steps = self.steps()
        for step in steps[: -self._keep]:
            if step != best_step:
                # The manifest goes first: a half-deleted checkpoint must not look complete.
                self._store.delete([f"{_folder(step)}/{MANIFEST_KEY}"])
                self._store.delete([f"{_folder(step)}/{STATE_KEY}"])


def _folder(step: int) -> str:
    return f"{_PREFIX}{step:0{_DIGITS}d}"

"""The byte indexes of a split's shards, read when they are needed: ten million records have 200 MB of them."""

import collections
import concurrent.futures
import logging
import threading
from collections.abc import Sequence

from imagetrain_trainer import errors
from imagetrain_trainer.data import dataset, shard_index
from imagetrain_trainer.storage import fetching, store, whole_reads

logger = logging.getLogger(__name__)

ADVICE = "Upload that file again, or pack the data set again."
_KEPT_BYTES = (
    16 * 1024 * 1024
)  # indexes of 840,000 records; a reader keeps the entries of the blocks it has open itself


class ShardIndexes:
    """Fetches, checks and keeps the newest used indexes. Thread-safe."""

    def __init__(
        self,
        objects: store.ObjectStore,
        fetcher: fetching.Fetcher,
        shards: Sequence[dataset.Shard],
        kept_bytes: int = _KEPT_BYTES,
    ) -> None:
        self._objects = objects
        self._fetcher = fetcher
        self._shards = shards
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._asked: dict[int, concurrent.futures.Future[memoryview]] = {}
        self._loaded: collections.OrderedDict[int, shard_index.Entries] = collections.OrderedDict()
        self._loaded_bytes = 0

    def request(self, number: int, priority: float = 0.0) -> None:
        """Begin to fetch the index of a shard, unless it is here or on its way."""
        shard = self._shards[number]
        with self._lock:
            if number not in self._loaded and number not in self._asked:
                self._asked[number] = self._fetcher.get(shard.index_key, 0, shard.index_size_bytes, priority)

    def entries(self, number: int) -> shard_index.Entries:
        """Return the index of a shard, waiting for it where needed: (records,) of `shard_index.ENTRY`.

        Raises:
            errors.DataCorruptError: it is truncated, damaged, or does not fit `dataset.json`.
            errors.StorageError: it is not there, or the store failed.
        """
        while True:
            with self._lock:
                known, asked = self._loaded.get(number), self._asked.get(number)
                if known is not None:
                    self._loaded.move_to_end(number)
                    return known
            if asked is not None:
                return self._keep(number, self._wait(number, asked))
            self.request(number)

    def _keep(self, number: int, entries: shard_index.Entries) -> shard_index.Entries:
        with self._lock:
            self._asked.pop(number, None)
            if number not in self._loaded:
                self._loaded[number] = entries
                self._loaded_bytes += entries.nbytes
            while self._loaded_bytes > self._kept_bytes and len(self._loaded) > 1:
                self._loaded_bytes -= self._loaded.popitem(last=False)[1].nbytes
        return entries

    def cancel(self) -> None:
        """Drop what is on its way; whoever waits for it gets CancelledError."""
        with self._lock:
            asked = list(self._asked.values())
        for future in asked:
            future.cancel()

    def _wait(self, number: int, asked: "concurrent.futures.Future[memoryview]") -> shard_index.Entries:
        shard = self._shards[number]
        try:
            data = bytes(asked.result())
            try:
                return self._decode(shard, data)
            except errors.DataCorruptError as e:
                logger.warning("%s is read again: it %s", self._objects.uri_of(shard.index_key), e)
            return whole_reads.read_whole(lambda: self._read(shard))
        except BaseException:
            with self._lock:
                self._asked.pop(number, None)  # the next one tries again
            raise

    def _read(self, shard: dataset.Shard) -> shard_index.Entries:
        data = bytes(self._fetcher.get(shard.index_key, 0, shard.index_size_bytes).result())
        try:
            return self._decode(shard, data)
        except errors.DataCorruptError as e:
            raise errors.DataCorruptError(f"{self._objects.uri_of(shard.index_key)} {e}. {ADVICE}") from e

    def _decode(self, shard: dataset.Shard, data: bytes) -> shard_index.Entries:
        """Parse an index; raises DataCorruptError with the broken rule."""
        entries = shard_index.decode(data)
        if len(entries) != shard.records or shard_index.checksum(data) != shard.index_crc32c:
            raise errors.DataCorruptError(f"must be the index of {shard.records} records that {dataset.KEY} lists")
        shard_index.check_contiguous(entries, shard.size_bytes)
        return entries

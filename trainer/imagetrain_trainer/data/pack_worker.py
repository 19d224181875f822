"""One worker of a pack: reads, checks and encodes images, in a process of its own or in the caller's.

The process is started with a socket on which it gets a `Work`, pickled, and then lists of rows; it answers each with a
`Chunk`, in order. It ends when the socket closes, so it never outlives its parent, however that ended.
"""

import collections
import functools
import os
import queue
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from multiprocessing import connection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from imagetrain_trainer import errors
from imagetrain_trainer.data import encoding, example, images, pack_journal, pack_list, pack_tally, sources, tfrecord

_Read = Callable[[], bytes | npt.NDArray[np.uint8]]

_ANSWERS_AHEAD = 1  # computed while an earlier one waits to be taken


class Work(NamedTuple):
    """What is the same for all images of a pack.

    Attributes:
        source: to read from.
        encoding: how to store.
        channels: see `encoding.encode`; likewise the policy.
        policy: what to do with images that need a choice.
    """

    source: sources.Source
    encoding: encoding.EncodingOptions
    channels: int | None
    policy: images.ImagePolicy


class Chunk(NamedTuple):
    """Some images in order, ready to be put into shards.

    Attributes:
        frames: framed records, one behind the other.
        records: facts of each.
        refusals: of images that were refused.
    """

    frames: bytes
    records: list[pack_tally.RecordFacts]
    refusals: list[pack_journal.Refusal]


def work_on(work: Work, rows: Sequence[pack_list.Row]) -> Chunk:
    """Read, check and encode some images.

    Raises:
        errors.StorageError: the source's storage failed: that is no fault of an image.
    """
    frames: list[bytes] = []
    records: list[pack_tally.RecordFacts] = []
    refusals: list[pack_journal.Refusal] = []
    with warnings.catch_warnings():
        # Pillow warns of oddities, such as a broken EXIF block, that do not touch the pixels.
        warnings.simplefilter("ignore", UserWarning)
        for row, read in _read_ahead(work.source, rows):
            try:
                encoded = _encode(work, row, read)
            except errors.ConfigError as e:
                refusals.append(pack_journal.Refusal(row.position, str(e)))
                continue
            frame, facts = _frame(row, encoded)
            frames.append(frame)
            records.append(facts)
    return Chunk(b"".join(frames), records, refusals)


def _read_ahead(source: sources.Source, rows: Sequence[pack_list.Row]) -> Iterator[tuple[pack_list.Row, _Read]]:
    """Yield each row with what returns its image; where reading waits for a network, the next are on their way."""
    if source.concurrent_reads == 1:
        for row in rows:
            yield row, functools.partial(source.read, row.locator)
        return
    pending: collections.deque[tuple[pack_list.Row, _Read]] = collections.deque()
    pool = futures.ThreadPoolExecutor(source.concurrent_reads, "imagetrain-read")
    try:
        for row in rows:
            pending.append((row, pool.submit(source.read, row.locator).result))
            if len(pending) > source.concurrent_reads:
                yield pending.popleft()
        yield from pending
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(work: Work, row: pack_list.Row, read: _Read) -> encoding.EncodedImage:
    data = read()
    try:
        return encoding.encode(data, work.encoding, work.channels, work.policy)
    except errors.ConfigError as e:
        raise errors.ConfigError(f"{work.source.describe(row.locator)} {e}.") from e


def _frame(row: pack_list.Row, encoded: encoding.EncodedImage) -> tuple[bytes, pack_tally.RecordFacts]:
    stored = encoded.stored
    record = example.Record(
        payload=stored.payload,
        label=row.label,
        format=stored.format,
        height=stored.height,
        width=stored.width,
        channels=stored.channels,
        key=row.key,
    )
    frame, crc = tfrecord.frame(example.encode_record(record))
    facts = pack_tally.RecordFacts(
        position=row.position,
        key=row.key,
        label=row.label,
        frame_bytes=len(frame),
        crc=crc,
        height=stored.height,
        width=stored.width,
        channels=stored.channels,
        format=stored.format,
        change=stored.change,
        pixel_sums=stored.pixel_sums,
        pixel_square_sums=stored.pixel_square_sums,
        digest=encoded.digest,
    )
    return frame, facts


def main(descriptor: int) -> None:
    """Serve a parent on the socket `descriptor`, as the whole work of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    channel = connection.Connection(descriptor)
    questions: queue.SimpleQueue[list[pack_list.Row]] = queue.SimpleQueue()
    answers: queue.Queue[Chunk | Exception] = queue.Queue(_ANSWERS_AHEAD)
    try:
        work: Work = channel.recv()
    except EOFError:
        return
    threading.Thread(target=_receive, args=(channel, questions), daemon=True).start()
    threading.Thread(target=_send, args=(channel, answers), daemon=True).start()
    while True:
        rows = questions.get()
        try:
            answers.put(work_on(work, rows))
        except errors.TrainerError as e:
            answers.put(e)
        except Exception:  # noqa: BLE001 - the parent raises it
            answers.put(RuntimeError(f"in a packing process:\n{traceback.format_exc()}"))


def _receive(channel: connection.Connection, questions: "queue.SimpleQueue[list[pack_list.Row]]") -> None:
    """Take what the parent sends as soon as it comes: it must never wait for this process to compute."""
    try:
        while True:
            questions.put([pack_list.Row(*row) for row in channel.recv()])
    except (EOFError, OSError):
        os._exit(0)  # at once, in whatever image the main thread is


def _send(channel: connection.Connection, answers: "queue.Queue[Chunk | Exception]") -> None:
    try:
        while True:
            channel.send(answers.get())
    except OSError:
        os._exit(0)

"""The order of one epoch when a split is too large to be shuffled as a whole: blocks first, then records across blocks.

1. The blocks are permuted by a hash, and half of them turned round (for a block that is divided between two lanes, so
   that the same records do not come late in every epoch), which makes the canonical sequence.
2. It is divided into LANES contiguous lanes. Position p of the epoch is place p // lanes of lane p % lanes.
3. A lane has one *slot* a block. The records of its j-th block are dealt, in random order, in thirds to the slots
   j - 1, j and j + 1 (at the lane's ends to the nearest slot there is), and each slot is shuffled. So a lane reads
   three blocks at a time, and a block's records spread over the time in which three blocks are trained on.
4. So that many workers can share a lane, each block is cut into `strands` contiguous parts, and place q of a lane
   takes a record of part q % strands (bit-reversed, for neighbouring places to lie far apart): strands are dealt and
   shuffled one by one. A worker that takes a few strands reads a fixed part of every block.

The rank of a record in its lane follows from the sizes of the slots before its own, which are sums over three
neighbouring blocks, and from its rank within the slot. So any stretch of the order is had from the few blocks that lie
around it, and it is the very order that sorting the whole lane by (slot, hash) would give: no record outside of a slot
takes part in that slot's sort.
"""

import collections
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from imagetrain_trainer.data import blocks, hashing
from imagetrain_trainer.data.streams import Stream

LANES = 4
"""Sequences that are read side by side: up to four workers read whole blocks of their own."""
SPREAD = 3
"""Slots over which a block is dealt, and so the blocks that a lane has open."""
OPEN_BLOCKS = SPREAD + 1
"""Most blocks of equal size of which a lane has had a record, and will have another, at any moment: those of a slot,
and one more while some strands of the lane have gone on to the next slot."""

_MOST_STRANDS = 16
_STRAND_RECORDS = 8  # fewer records of a block in a strand would let strands drift apart by much of a block
_PIECE_RECORDS = 512  # the least that is worked out at once: numpy's overhead is paid per call
_KEPT_PIECES = 4  # of each lane: where the batch lies, where read-ahead has got to, and the neighbours of both
_HASH_BITS = 24
_SUMMED_BLOCKS = 1024  # numpy widens all draws that are summed at once to eight bytes each

Draws = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.int64]


class BlockOrder:
    """The order of one epoch. Thread-safe."""

    def __init__(self, layout: blocks.Layout, seed: int, epoch: int, draws: Draws | None = None) -> None:
        """Permute the blocks.

        Args:
            layout: of the split.
            seed: any integer.
            epoch: from 0.
            draws: (records,) how often each record comes in the epoch; None: once.
        """
        sizes = np.diff(layout.first_records) if draws is None else _sum_by_block(layout, draws)
        order = _permute(layout.blocks, seed, epoch)
        if draws is not None:
            order = order[sizes[order] > 0]
        starts = np.zeros(len(order) + 1, np.int64)
        np.cumsum(sizes[order], out=starts[1:])
        total = int(starts[-1])
        self.lanes = min(LANES, len(order))
        self.strands = _count_strands(total // len(order))
        self._layout, self._draws = layout, draws
        lengths = [-(-(total - lane) // self.lanes) for lane in range(self.lanes)]
        self._lanes = [
            _Lane(order, starts, sum(lengths[:lane]), length, self.strands) for lane, length in enumerate(lengths)
        ]
        self._seed_parts = (seed, epoch, Stream.RECORDS)
        self._piece_records = max(_PIECE_RECORDS, total // len(order))
        self._pieces: collections.OrderedDict[tuple[int, int], tuple[Ids, npt.NDArray[np.float64]]]
        self._pieces = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> Ids:
        """Return the record ids at positions [start, stop), ordered by lane and by their place within their blocks.

        Contiguous parts of them are what workers should read: the lower the worker count, the more whole lanes.
        """
        ids, keys = [], []
        for lane in range(self.lanes):
            first, last = (-(-(position - lane) // self.lanes) for position in (start, stop))
            for piece in range(first // self._piece_records, -(-last // self._piece_records)):
                offset = piece * self._piece_records
                part = slice(max(first - offset, 0), last - offset)
                piece_ids, piece_keys = self._piece(lane, piece)
                ids.append(piece_ids[part])
                keys.append(piece_keys[part])
        return np.concatenate(ids)[np.argsort(np.concatenate(keys), kind="stable")]

    def _piece(self, lane: int, number: int) -> tuple[Ids, npt.NDArray[np.float64]]:
        key = (lane, number)
        with self._lock:
            if key in self._pieces:
                self._pieces.move_to_end(key)
                return self._pieces[key]
        start = number * self._piece_records
        piece = self._order_lane(lane, start, min(start + self._piece_records, self._lanes[lane].records))
        with self._lock:
            self._pieces[key] = piece
            if len(self._pieces) > _KEPT_PIECES * self.lanes:
                self._pieces.popitem(last=False)
        return piece

    def _order_lane(self, number: int, start: int, stop: int) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Work out the places [start, stop) of a lane: record ids, and the keys by which a batch is sorted."""
        lane, strands = self._lanes[number], self.strands
        slots = lane.slots_at(start, stop)
        dealt = slice(max(slots.start - 1, 0), min(slots.stop + 1, len(lane.blocks)))
        first, last = lane.starts[dealt.start], lane.starts[dealt.stop]
        words = hashing.hash_u64(*self._seed_parts, np.arange(lane.first + first, lane.first + last))
        order, groups = _deal(lane, dealt, slots, words >> np.uint64(64 - _HASH_BITS))
        shuffled = _sort(groups, words[order] & np.uint64((1 << _HASH_BITS) - 1))
        order, groups = order[shuffled], groups[shuffled]
        firsts = lane.slot_starts(np.arange(slots.start, slots.stop + 1))  # (slots + 1, strands)
        ranks = _count_up(firsts[:-1], np.diff(firsts, axis=0))
        strand = groups % strands
        places = ranks * strands + lane.residues[strand] - start
        inside = (places >= 0) & (places < stop - start)
        order, places, strand = order[inside], places[inside], strand[inside]
        all_ids, within = self._lane_ids(lane, dealt)
        ids, keys = np.empty(stop - start, np.int64), np.empty(stop - start, np.float64)
        ids[places] = all_ids[order]
        keys[places] = number * strands + strand + within[order]
        return ids, keys

    def _lane_ids(self, lane: "_Lane", dealt: slice) -> tuple[Ids, npt.NDArray[np.float64]]:
        """Return the record ids of some blocks of a lane in canonical order, and the part of its block before each."""
        chosen = lane.blocks[dealt]
        firsts = self._layout.first_records[chosen]
        sizes = self._layout.first_records[chosen + 1] - firsts
        offsets = _count_up(np.zeros_like(sizes), sizes)
        is_turned = hashing.hash_u64(*self._seed_parts[:2], Stream.TURNS, chosen) % np.uint64(2) == 1
        ids = np.repeat(np.where(is_turned, firsts + sizes - 1, firsts), sizes)
        ids += offsets * np.repeat(np.where(is_turned, -1, 1), sizes)
        within = offsets / np.repeat(sizes, sizes)
        if self._draws is not None:
            copies = self._draws[ids]
            ids, within = np.repeat(ids, copies), np.repeat(within, copies)
        # The lane's first block may have begun in the lane before, and its last may go on in the next.
        skipped = lane.skipped if dealt.start == 0 else 0
        stop = skipped + int(lane.starts[dealt.stop] - lane.starts[dealt.start])
        return ids[skipped:stop], within[skipped:stop]


class _Lane:
    """A contiguous piece of the canonical sequence.

    Attributes:
        first: index of its first record in the canonical sequence.
        records: number of records.
        blocks: (n,) int64 block numbers.
        starts: (n + 1,) int64, place of each block's first record in the lane, before shuffling; the last is `records`.
        skipped: records of the first block that belong to the lane before.
        strands: number of strands.
        residues: (strands,) int64: strand k has the lane's places q with q % strands == residues[k].
    """

    def __init__(self, order: Ids, starts: Ids, first: int, records: int, strands: int) -> None:
        begin = int(np.searchsorted(starts, first, side="right")) - 1
        end = int(np.searchsorted(starts, first + records, side="left"))
        self.first, self.records = first, records
        self.blocks = order[begin:end]
        self.starts = starts[begin : end + 1] - first
        self.starts[0], self.starts[-1] = 0, records
        self.skipped = first - int(starts[begin])
        self.strands = strands
        bits = strands.bit_length() - 1
        self.residues = np.array([int(f"{k:0{bits}b}"[::-1], 2) if bits else 0 for k in range(strands)], np.int64)

    def strand_starts(self, numbers: Ids) -> Ids:
        """Return the rank, in each strand, of the first record of some blocks, (len(numbers), strands).

        A strand has as many records of the blocks before as it has places among theirs: numbers differ by one at most.
        """
        return (self.starts[numbers][:, None] + self.strands - 1 - self.residues) // self.strands

    def slot_starts(self, numbers: Ids) -> Ids:
        """Return the rank, in each strand, of the first record of some slots, (len(numbers), strands).

        Before slot s lie all blocks up to s - 2, block s - 1 without the third dealt onward to s, and the third of
        block s that is dealt back.
        """
        last = len(self.blocks)
        before, here, behind = (self.strand_starts(np.clip(numbers + i, 0, last)) for i in (-1, 0, 1))
        inner = here - _count_third(2, before, here) + _count_third(0, here, behind)
        at_end = (numbers == 0) | (numbers == last)
        return np.where(at_end[:, None], here, inner)

    def slots_at(self, start: int, stop: int) -> slice:
        """Return the slots that have a record at a place in [start, stop)."""
        last = len(self.blocks)
        # Slot s lies within the places of the blocks s - 1 to s + 1, give or take a round of the strands.
        low = int(np.searchsorted(self.starts, start - self.strands, side="right")) - 2
        high = int(np.searchsorted(self.starts, stop + self.strands, side="left")) + 1
        numbers = np.arange(max(low, 0), min(high, last) + 1)
        places = self.slot_starts(numbers) * self.strands + self.residues
        begin = int(np.searchsorted(places[1:].max(axis=1), start, side="right"))
        end = int(np.searchsorted(places[:-1].min(axis=1), stop, side="left"))
        return slice(int(numbers[0]) + begin, int(numbers[0]) + end)


def _deal(lane: _Lane, dealt: slice, slots: slice, words: npt.NDArray[np.uint64]) -> tuple[Ids, npt.NDArray[np.int64]]:
    """Deal the records of some blocks, in the order of their hashes, to slots.

    Args:
        lane: the lane.
        dealt: its blocks; all that are dealt to the slots are among them.
        slots: those that are asked for.
        words: (records of the blocks,) hashes.

    Returns:
        Indices into `words` of the records that the slots get, (n,), and each one's slot and strand as one number,
        (n,): (slot - slots.start) * strands + strand.
    """
    # A cell is one strand's part of one block: contiguous records, of all cells in order.
    bounds = lane.strand_starts(np.arange(dealt.start, dealt.stop + 1))  # (blocks + 1, strands)
    sizes = np.diff(bounds, axis=0)
    cells = np.repeat(np.arange(sizes.size), sizes.ravel())
    order = _sort(cells, words)
    # Ranks count on from cell to cell of a strand, and so do the thirds: they differ by one over the whole strand.
    thirds = _count_up(bounds[:-1], sizes) % SPREAD
    slot = np.clip(cells // lane.strands + dealt.start + thirds - 1, 0, len(lane.blocks) - 1)
    chosen = np.flatnonzero((slot >= slots.start) & (slot < slots.stop))
    return order[chosen], (slot[chosen] - slots.start) * lane.strands + cells[chosen] % lane.strands


def _count_up(starts: Ids, sizes: Ids) -> Ids:
    """Return the numbers from each start on, as many as its size, one after the other, flat."""
    starts, sizes = starts.ravel(), sizes.ravel()
    stops = np.cumsum(sizes)
    return np.arange(int(stops[-1]) if len(stops) else 0) + np.repeat(starts - stops + sizes, sizes)


def _permute(count: int, seed: int, epoch: int) -> Ids:
    """Return a random permutation of the blocks, (count,)."""
    # Sorting hashes whose low bits are the block's number is several times as fast as argsort.
    low = np.uint64((1 << count.bit_length()) - 1)
    words = hashing.hash_u64(seed, epoch, Stream.BLOCKS, np.arange(count)) & ~low
    words |= np.arange(count, dtype=np.uint64)
    words.sort()
    words &= low
    return words.view(np.int64)


def _sum_by_block(layout: blocks.Layout, draws: Draws) -> Ids:
    """Return the draws of each block, (blocks,)."""
    sums = np.empty(layout.blocks, np.int64)
    for start in range(0, layout.blocks, _SUMMED_BLOCKS):
        firsts = layout.first_records[start : start + _SUMMED_BLOCKS + 1]
        part = draws[firsts[0] : firsts[-1]]
        sums[start : start + _SUMMED_BLOCKS] = np.add.reduceat(part, firsts[:-1] - firsts[0], dtype=np.int64)
    return sums


def _count_strands(block_records: int) -> int:
    """Return the strands of a lane, a power of two."""
    most = min(_MOST_STRANDS, max(block_records // _STRAND_RECORDS, 1))
    return 1 << int(math.log2(most))


def _count_third(third: int, start: Ids, stop: Ids) -> Ids:
    """Count the numbers x in [start, stop) with x % SPREAD == third."""
    return (stop + SPREAD - 1 - third) // SPREAD - (start + SPREAD - 1 - third) // SPREAD


def _sort(groups: npt.NDArray[np.int64], words: npt.NDArray[np.uint64]) -> Ids:
    """Return the order by (group, word of _HASH_BITS bits); ties keep their order."""
    keys = (groups.astype(np.uint64) << np.uint64(_HASH_BITS)) | words
    low = len(keys).bit_length()
    if int(groups.max(initial=0)).bit_length() + _HASH_BITS + low > 64:
        return np.argsort(keys, kind="stable")
    # With the index in their low bits, sorting the keys themselves is several times as fast and gives the same order.
    keys = (keys << np.uint64(low)) | np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64((1 << low) - 1)).view(np.int64)

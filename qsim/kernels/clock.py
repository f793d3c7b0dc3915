"""The virtual time of planned rounds: what `qsim.network.Clock` computes, to the last bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qsim.kernels._jit import kernel
from qsim.kernels.hashing import fold
from qsim.kernels.link_queue import pass_in_order, rising
from qsim.kernels.participation import pairwise_sum


@kernel
def draw_uniforms(word: np.uint64, first: int, out: NDArray[np.float64]) -> None:
    """Write a number in (0, 1) for each worker in the first exchange of each round; the first round has a number."""
    for t in range(out.shape[0]):
        of_exchange = fold(fold(word, np.uint64(first + t)), np.uint64(0))
        for worker in range(out.shape[1]):
            bits = fold(of_exchange, np.uint64(worker)) >> np.uint64(12)
            out[t, worker] = (np.float64(bits) + 0.5) * 2.0**-52


@kernel
def fold_ties(word: np.uint64, turn: NDArray[np.int64], workers: int, out: NDArray[np.uint64]) -> None:
    """Write the word of the key that decides between equal messages of the first exchange of a round."""
    out[0] = fold(fold(fold(word, np.uint64(turn[0])), np.uint64(0)), np.uint64(workers))


@kernel
def places_of(present: NDArray[np.bool_], who: NDArray[np.int64]) -> None:
    """Write the numbers of the workers that take part."""
    count = 0
    for worker in range(present.size):
        if present[worker]:
            who[count] = worker
            count += 1


@kernel
def count_touched(
    indptr: NDArray[np.int64], rows: NDArray[np.int64], row_offsets: NDArray[np.int64], out: NDArray[np.int64]
) -> None:
    """Write how many non-zeros the rows of each worker have."""
    for worker in range(out.size):
        out[worker] = 0
        for r in range(row_offsets[worker], row_offsets[worker + 1]):
            out[worker] += indptr[rows[r] + 1] - indptr[rows[r]]


@kernel
def lengths(offsets: NDArray[np.int64], out: NDArray[np.int64]) -> None:
    """Write the length of each row."""
    for row in range(out.size):
        out[row] = offsets[row + 1] - offsets[row]


@kernel
def take_sizes(who: NDArray[np.int64], offsets: NDArray[np.int64], sizes: NDArray[np.float64]) -> None:
    """Write the sizes of some packets."""
    for k in range(who.size):
        sizes[k] = offsets[who[k] + 1] - offsets[who[k]]


@kernel
def work(
    who: NDArray[np.int64],
    nonzeros: NDArray[np.int64],
    entries: NDArray[np.int64],
    delays: NDArray[np.float64] | None,
    turn: NDArray[np.int64],
    factors: NDArray[np.float64],
    per_nonzero: float,
    base: float,
    per_entry: float,
    compute: NDArray[np.float64],
    encode: NDArray[np.float64],
    ready: NDArray[np.float64],
) -> None:
    """Write how long some workers compute and encode, and when they are ready."""
    for k in range(who.size):
        worker = who[k]
        seconds = np.float64(nonzeros[worker]) * per_nonzero
        seconds += base
        if delays is not None:
            seconds += delays[turn[1], worker]
        compute[k] = seconds * factors[worker]
        encode[k] = factors[worker] * per_entry * np.float64(entries[worker])
        ready[k] = compute[k] + encode[k]


@kernel
def arrive(
    ready: NDArray[np.float64],
    sizes: NDArray[np.float64],
    per_byte: float,
    latency: float,
    servers: int,
    ties: NDArray[np.uint64],
    through: NDArray[np.float64],
) -> None:
    """Write when messages have come through the links of servers: in the order in which they are ready, or by lot."""
    when, everyone = (ready + 0.0).view(np.uint64), np.arange(ready.size)  # + 0.0: no zero is negative
    takes, places = per_byte * sizes, max(1, min(servers, ready.size))
    if pass_in_order(rising(when, everyone), ready, takes, places, through):
        lots = np.empty(ready.size, np.uint64)
        for k in range(ready.size):
            lots[k] = fold(ties[0], np.uint64(k))
        pass_in_order(rising(when, rising(lots, everyone)), ready, takes, places, through)
    for k in range(through.size):
        through[k] += latency


@kernel
def take_all(arrivals: NDArray[np.float64], on_time: NDArray[np.bool_]) -> float:
    """Take all messages; return when the last arrives."""
    last = 0.0
    for k in range(arrivals.size):
        on_time[k] = True
        last = max(last, arrivals[k])
    return last


@kernel
def take_until(arrivals: NDArray[np.float64], seconds: float, on_time: NDArray[np.bool_]) -> float:
    """Take the messages that arrive up to a time; return it, or when the last arrives if all are taken."""
    late, last = 0, -np.inf
    for k in range(arrivals.size):
        on_time[k] = arrivals[k] <= seconds
        late += int(not on_time[k])
        last = max(last, arrivals[k])
    return seconds if late else last


@kernel
def take_first(
    arrivals: NDArray[np.float64], count: int, ties: NDArray[np.uint64], on_time: NDArray[np.bool_]
) -> float:
    """Take the first `count` messages, lots deciding between equals; return when the last of them arrives."""
    last, taken = np.sort(arrivals)[count - 1], 0
    for k in range(arrivals.size):
        on_time[k] = arrivals[k] < last
        taken += int(on_time[k])
    while taken < count:
        best, lot = -1, np.uint64(0)
        for k in range(arrivals.size):
            if arrivals[k] == last and not on_time[k]:
                drawn = fold(ties[0], np.uint64(k))
                if best < 0 or drawn < lot:
                    best, lot = k, drawn
        on_time[best] = True
        taken += 1
    return float(last)


@kernel
def account(
    who: NDArray[np.int64],
    on_time: NDArray[np.bool_],
    close: float,
    arrivals: NDArray[np.float64],
    ready: NDArray[np.float64],
    compute: NDArray[np.float64],
    encode: NDArray[np.float64],
    sizes: NDArray[np.float64],
    per_byte: float,
    servers: int,
    delivered: NDArray[np.bool_],
    spent: NDArray[np.float64],
) -> int:
    """Write whose messages are delivered, and the times of the uplink by part: compute, encode, uplink, decode, wait.

    Behind them, how many messages were dropped. Returns how many were not.
    """
    delivered[:] = False
    kept, last, count, bytes_kept = np.empty((2, who.size)), -1, 0, 0.0
    for k in range(who.size):
        if on_time[k]:
            delivered[who[k]] = True
            kept[0, count], kept[1, count] = compute[k], encode[k]
            bytes_kept += sizes[k]
            count += 1
            if last < 0 or arrivals[k] > arrivals[last]:
                last = k
    if count == 0:
        return 0
    usual_compute = min(compute[last], pairwise_sum(kept[0, :count]) / count)
    usual_encode = min(encode[last], pairwise_sum(kept[1, :count]) / count)
    longer = compute[last] - usual_compute + encode[last] - usual_encode
    spent[0], spent[1] = usual_compute, usual_encode
    spent[2] = arrivals[last] - ready[last]
    spent[3] = per_byte * (bytes_kept / servers)
    spent[4] = longer + close - arrivals[last]
    spent[5] = who.size - count
    return count


@kernel
def end_time(
    turn: NDArray[np.int64],
    fixed: float,
    offsets: NDArray[np.int64] | None,
    receivers: int,
    servers: int,
    latency: float,
    bandwidth: float,
    spent: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    """Write the times of a round: of the downlink, a fixed time and that of a packet to all, and of the uplink.

    offsets: those of the packet; None: there is none.
    """
    seconds = fixed
    if offsets is not None and offsets[1]:
        each = np.float64(offsets[1])
        seconds += latency + 8 * max(each, each * receivers / servers) / bandwidth
    out[turn[1], 0] = seconds
    for part in range(spent.size):
        out[turn[1], 1 + part] = spent[part]

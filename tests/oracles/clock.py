"""The virtual time of a round: workers one by one, messages in the order in which servers' links pass them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from oracles.hashing import fold


def draw_uniforms(word: int, first: int, out: Any) -> None:
    for t, row in enumerate(out):
        for worker in range(len(row)):
            drawn = fold(fold(fold(int(word), first + t), 0), worker)
            out[t, worker] = ((drawn >> 12) + 0.5) / 2**52


def fold_ties(word: int, turn: Any, workers: int, out: Any) -> None:
    out[0] = fold(fold(fold(int(word), int(turn[0])), 0), workers)


def places_of(present: Any, who: Any) -> None:
    there = [worker for worker, is_there in enumerate(present) if is_there]
    who[: len(there)] = there


def count_touched(indptr: Any, rows: Any, row_offsets: Any, out: Any) -> None:
    for worker, (first, last) in enumerate(pairwise(row_offsets.tolist())):
        out[worker] = sum(int(indptr[row + 1] - indptr[row]) for row in rows[first:last])


def lengths(offsets: Any, out: Any) -> None:
    out[:] = [last - first for first, last in pairwise(offsets.tolist())][: len(out)]


def take_sizes(who: Any, offsets: Any, sizes: Any) -> None:
    sizes[: len(who)] = [int(offsets[worker + 1]) - int(offsets[worker]) for worker in who]


def work(
    who: Any,
    nonzeros: Any,
    entries: Any,
    delays: Any,
    turn: Any,
    factors: Any,
    per_nonzero: float,
    base: float,
    per_entry: float,
    compute: Any,
    encode: Any,
    ready: Any,
) -> None:
    for k, worker in enumerate(who.tolist()):
        delay = 0.0 if delays is None else float(delays[turn[1], worker])
        compute[k] = float(factors[worker]) * (float(nonzeros[worker]) * per_nonzero + base + delay)
        encode[k] = float(factors[worker]) * per_entry * float(entries[worker])
        ready[k] = compute[k] + encode[k]


def arrive(ready: Any, sizes: Any, per_byte: float, latency: float, servers: int, ties: Any, through: Any) -> None:
    """A message is split over all servers, whose links pass it side by side; they are at most as many as messages.

    A worker's own link lets it send at the rate of one link: the servers' links together pass as many at a time as
    there are servers, each at full speed, in the order in which they are ready; equal ones in the order of their lots.
    """
    order = sorted(range(len(ready)), key=lambda k: (float(ready[k]), fold(int(ties[0]), k)))
    free = [0.0] * min(servers, len(ready))
    for k in order:
        link = min(range(len(free)), key=free.__getitem__)
        free[link] = max(free[link], float(ready[k])) + per_byte * float(sizes[k])
        through[k] = free[link] + latency


def take_all(arrivals: Any, on_time: Any) -> float:
    on_time[:] = True
    return max([0.0, *arrivals.tolist()])


def take_until(arrivals: Any, seconds: float, on_time: Any) -> float:
    on_time[:] = [at <= seconds for at in arrivals.tolist()]
    return max(arrivals.tolist()) if on_time.all() else seconds


def take_first(arrivals: Any, count: int, ties: Any, on_time: Any) -> float:
    order = sorted(range(len(arrivals)), key=lambda k: (float(arrivals[k]), fold(int(ties[0]), k)))
    on_time[:] = False
    on_time[order[:count]] = True
    return float(arrivals[order[count - 1]])


def account(
    who: Any,
    on_time: Any,
    close: float,
    arrivals: Any,
    ready: Any,
    compute: Any,
    encode: Any,
    sizes: Any,
    per_byte: float,
    servers: int,
    delivered: Any,
    spent: Any,
) -> int:
    kept = [k for k in range(len(who)) if on_time[k]]
    delivered[:] = [worker in {int(who[k]) for k in kept} for worker in range(len(delivered))]
    if kept:
        last = max(kept, key=lambda k: float(arrivals[k]))
        usual = [min(float(part[last]), float(np.mean(part[kept]))) for part in (compute, encode)]
        waited = float(compute[last]) - usual[0] + float(encode[last]) - usual[1] + close - float(arrivals[last])
        uplink = float(arrivals[last]) - float(ready[last])
        decode = per_byte * (sum(float(sizes[k]) for k in kept) / servers)
        spent[:] = [*usual, uplink, decode, waited, len(who) - len(kept)]
    return len(kept)


def end_time(
    turn: Any,
    fixed: float,
    offsets: Any,
    receivers: int,
    servers: int,
    latency: float,
    bandwidth: float,
    spent: Any,
    out: Any,
) -> None:
    size = 0.0 if offsets is None else float(offsets[1])
    packet = latency + 8 * max(size, size * receivers / servers) / bandwidth if size else 0.0
    out[turn[1]] = [math.fsum([fixed, packet]), *spent.tolist()]

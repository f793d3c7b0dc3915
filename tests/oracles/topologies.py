"""Topologies: every transfer is carried out, one after the other, with what it carries."""

from __future__ import annotations

Transfer = tuple[int, int, float]
"""From whom, to whom, how many bytes."""


def ring(p: int, m: float) -> list[list[Transfer]]:
    """Carry out a ring all-reduce; pieces are sets of the workers that are in their sum."""
    held = [[{i} for _ in range(p)] for i in range(p)]
    steps = []
    for step in range(2 * (p - 1)):
        moved = []
        for i in range(p):
            piece = (i - step) % p if step < p - 1 else (i + 1 - (step - p + 1)) % p
            moved.append((i, (i + 1) % p, piece, set(held[i][piece])))
        for _, target, piece, what in moved:
            if step < p - 1:
                assert not held[target][piece] & what, "nothing may be added twice"
                held[target][piece] |= what
            else:
                held[target][piece] = what
        steps.append([(source, target, m / p) for source, target, _, _ in moved])
    assert all(piece == set(range(p)) for pieces in held for piece in pieces)
    return steps


def tree(p: int, m: float) -> list[list[Transfer]]:
    held = [{i} for i in range(p)]
    steps, distance = [], 1
    while distance < p:
        moved = [(i, i - distance) for i in range(p) if i % (2 * distance) == distance]
        for source, target in moved:
            assert not held[target] & held[source]
            held[target] |= held[source]
        steps.append([(source, target, m) for source, target in moved])
        distance *= 2
    while distance > 1:
        distance //= 2
        moved = [(i - distance, i) for i in range(p) if i % (2 * distance) == distance]
        for source, target in moved:
            held[target] = set(held[source])
        steps.append([(source, target, m) for source, target in moved])
    assert all(what == set(range(p)) for what in held)
    return steps


def halving_doubling(p: int, m: float) -> list[list[Transfer]]:
    """Pieces are the q equal parts of a message; worker i ends the halving with one of them."""
    q = 1
    while 2 * q <= p:
        q *= 2
    held = [[{i} for _ in range(q)] for i in range(p)]
    steps = []
    if p > q:
        for i in range(q, p):
            for piece in range(q):
                held[i - q][piece] |= held[i][piece]
        steps.append([(i, i - q, m) for i in range(q, p)])
    keeps = [range(q)] * q
    distance, halvings = q // 2, []
    while distance:
        moved = []
        for i in range(q):
            half = len(keeps[i]) // 2
            mine = keeps[i][half:] if i & distance else keeps[i][:half]
            theirs = keeps[i][:half] if i & distance else keeps[i][half:]
            moved.append((i, i ^ distance, theirs, [set(held[i][piece]) for piece in theirs], mine))
        for i, target, pieces, what, mine in moved:
            for piece, sum_ in zip(pieces, what, strict=True):
                assert not held[target][piece] & sum_
                held[target][piece] |= sum_
            keeps[i] = mine
        halvings.append(distance)
        steps.append([(i, target, m * len(pieces) / q) for i, target, pieces, _, _ in moved])
        distance //= 2
    for distance in reversed(halvings):
        moved = [(i, i ^ distance, list(keeps[i]), [held[i][piece] for piece in keeps[i]]) for i in range(q)]
        for _, target, pieces, what in moved:
            for piece, sum_ in zip(pieces, what, strict=True):
                held[target][piece] = set(sum_)
        keeps = [range(min(keeps[i][0], keeps[i ^ distance][0]), max(keeps[i][-1], keeps[i ^ distance][-1]) + 1)
                 for i in range(q)]  # fmt: skip
        steps.append([(i, target, m * len(pieces) / q) for i, target, pieces, _ in moved])
    if p > q:
        for i in range(q, p):
            held[i] = [set(what) for what in held[i - q]]
        steps.append([(i - q, i, m) for i in range(q, p)])
    assert all(what == set(range(p)) for pieces in held for what in pieces)
    return steps


def all_gather(sizes: list[float]) -> list[list[Transfer]]:
    p = len(sizes)
    held, last = [{i} for i in range(p)], list(range(p))
    steps = []
    for _ in range(p - 1):
        moved = [(i, (i + 1) % p, last[i]) for i in range(p)]
        for _, target, message in moved:
            assert message not in held[target], "no message may come twice"
            held[target].add(message)
            last[target] = message
        steps.append([(source, target, sizes[message]) for source, target, message in moved])
    assert all(what == set(range(p)) for what in held)
    return steps


def seconds(steps: list[list[Transfer]], latency: float, bandwidth: float) -> float:
    """Take the steps one after the other, each as long as its busiest machine."""
    total = 0.0
    for transfers in steps:
        out: dict[int, float] = {}
        into: dict[int, float] = {}
        for source, target, size in transfers:
            out[source] = out.get(source, 0.0) + size
            into[target] = into.get(target, 0.0) + size
        total += latency + 8 * max(*out.values(), *into.values()) / bandwidth
    return total


def collective(steps: list[list[Transfer]], begin: float, p: int, latency: float, bandwidth: float) -> float:
    """Simulate a collective from transfer to transfer, without a clock that all share; return when the last one ends.

    A machine sends what it has to in a step when it has sent and received everything of its steps before; its link
    takes one message after the other, each way.
    """
    done, out, into = ([begin] * p for _ in range(3))  # with its steps so far; until when its link is taken, each way
    for transfers in steps:
        after = list(done)
        for source, target, size in transfers:
            end = max(done[source], out[source], into[target]) + 8 * size / bandwidth
            out[source] = into[target] = end
            after[source], after[target] = max(after[source], end), max(after[target], end + latency)
        done = after
    return max(done)

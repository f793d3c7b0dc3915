"""Messages that queue for the links of servers, simulated from event to event."""

from __future__ import annotations


def server(ready: list[float], sizes: list[float], servers: int, latency: float, bandwidth: float) -> list[float]:
    """Simulate every link, from event to event: workers' links, and those of the servers. No two are ready at one time.

    A worker sends 1/S of its message to each server, all at the same rate, which its own link bounds. A server's link
    goes to the messages in the order in which they were ready, as far as they can use it.
    """
    byte = 8 / bandwidth
    left = [[size / servers] * servers for size in sizes]  # bytes to each server that have not been sent
    came: list[float | None] = [None] * len(ready)
    for i, size in enumerate(sizes):
        if size == 0:
            left[i] = [1e-300] * servers
    now = 0.0
    while any(end is None for end in came):
        rates = [[0.0] * servers for _ in ready]
        capacity = [1 / byte] * servers
        for i in sorted((i for i in range(len(ready)) if ready[i] <= now and came[i] is None), key=lambda i: ready[i]):
            rate = min(1 / byte / servers, *capacity)
            if rate > 1e-9 / byte / servers:  # what is less is rounding
                rates[i] = [rate] * servers
                capacity = [free - rate for free in capacity]
        assert all(sum(rate) <= (1 + 1e-9) / byte for rate in rates)
        assert all(free >= -1e-9 / byte for free in capacity)
        ends = {i: now + left[i][0] / rates[i][0] for i in range(len(ready)) if rates[i][0]}
        then = min([*ends.values(), *(r for r in ready if r > now)])
        for i, end in ends.items():
            left[i] = [rest - rate * (then - now) for rest, rate in zip(left[i], rates[i], strict=True)]
            if end == then:
                came[i] = then + latency
        now = then
    return [end for end in came if end is not None]

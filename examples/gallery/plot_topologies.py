"""
Server or ring: which network suits compression?
================================================

With few workers, a server whose messages are compressed 30 times; from 32 on a ring, although it sends everything in
float32: it adds messages on their way, so that its time hardly grows with the workers.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim
from qsim.network import AllGather, Link, ParameterServer, Ring, simulate_timing

link = Link(bandwidth=1e9, latency=5e-5)
workers = 2 ** np.arange(1, 10)
full, small = 4e6, 4e6 / 30  # a million float32, and the same compressed 30 times
cases = {
    "server, float32": (ParameterServer(), full, full),
    "server, compressed both ways": (ParameterServer(), small, small),
    "ring, float32": (Ring(), full, 0),
    "all-gather, compressed": (AllGather(), small, 0),
}

seconds = {
    name: [
        simulate_timing(qsim.Network(topology, link), sizes=size, down=down, workers=w, rounds=1).seconds[0]
        for w in workers
    ]
    for name, (topology, size, down) in cases.items()
}

fig, ax = plt.subplots()
for name, several in seconds.items():
    ax.loglog(workers, several, "o-", label=name)
ax.set(xlabel="workers", ylabel="virtual seconds per round")
ax.legend()
plt.show()

ring, server = seconds["ring, float32"], seconds["server, compressed both ways"]
first = workers[np.argmax(np.less(ring, server))]
print(f"the ring is ahead from {first} workers on")
assert first == 32

"""
Federated, with slow clients: whom should the server wait for?
==============================================================

A quarter of 32 clients take five times as long. Waiting for the 24 fastest of them is quicker than waiting for all, but
where the slow ones have data of their own, it ends at a worse model.
"""

import matplotlib.pyplot as plt

import qsim
from qsim.network import Fastest, Link, LogNormal, Machines, Slow, WaitForAll

machines = Machines(base=0.5, delay=LogNormal(median=0.2, sigma=1.0), speeds=Slow(share=0.25, factor=5.0))
rules = {"wait for all": WaitForAll(), "the fastest 24 of 32": Fastest(24)}
traces = {
    name: qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.LocalSGD(step=0.2, steps=10, batch=16),
        compressor=qsim.QSGD(levels=16),
        workers=32,
        partition=qsim.datasets.ByLabel(),
        network=qsim.Network(link=Link(bandwidth=1e6, latency=0.05), machines=machines, rule=rule),
        rounds=200,
        evaluate_every=5,
    )
    for name, rule in rules.items()
}

fig, ax = plt.subplots()
qsim.plot(traces, x="seconds", y="suboptimality", ax=ax)
plt.show()

for name, trace in traces.items():
    seconds, end = trace.axis("seconds")[-1], trace.axis("suboptimality")[-1]
    print(f"{name}: {seconds:.0f} virtual seconds, suboptimality {end:.2g}, dropped {trace.frame['dropped'].sum()}")
everyone, fastest = traces.values()
assert fastest.axis("seconds")[-1] < everyone.axis("seconds")[-1] / 2
assert fastest.axis("suboptimality")[-1] > 2 * everyone.axis("suboptimality")[-1]

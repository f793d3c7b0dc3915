"""
Where does a round's time go?
=============================

About a third each into sending the weights down, into computing, and into waiting for the slowest machine. A timeline
shows it for one round: who computes, for how long, and for whom the server waits.
"""

import matplotlib.pyplot as plt

import qsim
from qsim.network import Exponential, Link, Machines

network = qsim.Network(
    link=Link(bandwidth=1e6, latency=1e-3), machines=Machines(base=0.02, delay=Exponential(0.02)), timelines=(1,)
)
trace = qsim.simulate(
    "adult",
    objective=qsim.LogisticRegression(l2=1e-3),
    method=qsim.GradientDescent(step=0.5),
    compressor=qsim.QSGD(levels=4),
    workers=12,
    rounds=20,
    network=network,
)

fig, ax = plt.subplots()
trace.timeline(1, ax=ax)
plt.show()

# %%
# Over all rounds:

parts = trace.frame[[f"seconds_{part}" for part in qsim.network.PARTS]].sum()
shares = parts / parts.sum()
print(shares.map("{:.0%}".format).to_string())
assert shares[["seconds_downlink", "seconds_compute", "seconds_wait"]].between(0.25, 0.42).all()

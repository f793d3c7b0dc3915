"""
How far is the bound of theory from what happens?
=================================================

It holds, as it must, and is far above: it is for the worst problem with the same constants. Both fall along
nearly straight lines on this scale, the run by almost twice as many powers of ten.
"""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

import qsim

run = qsim.Run(
    "spark_sample", qsim.LogisticRegression(l2=0.1), qsim.DIANA(), qsim.QSGD(levels=4), workers=8, rounds=200
)
traces = [qsim.simulate(replace(run, seed=seed)) for seed in range(5)]
bound = run.bound()(np.arange(201))

fig, ax = plt.subplots()
qsim.plot({"measured, five seeds": traces}, x="round", y="suboptimality", ax=ax)
ax.plot(bound, "k--", label="bound on the expectation")
ax.legend()
plt.show()

mean = np.mean([trace.axis("suboptimality") for trace in traces], axis=0)
powers = [np.log10(curve[0] / curve[-1]) for curve in (bound, mean)]
print(f"the bound falls by {powers[0]:.1f} powers of ten, the run by {powers[1]:.1f}")
assert (mean <= bound).all()
assert 1.5 < powers[1] / powers[0] < 2.5

"""
How much longer than in theory may a step be?
=============================================

DIANA's may be twice as long on this problem, and at four times it fails. EF21's, whose theorem covers far worse
problems, may be 64 times as long. Such a step is worth much, and has to be found anew for every problem.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

multiples = 2.0 ** np.arange(-1, 10)
ends = {}
for name, method in {"DIANA": qsim.DIANA, "EF21": qsim.EF21}.items():
    compressor = qsim.QSGD(levels=4) if name == "DIANA" else qsim.TopK(0.1)
    ends[name] = [
        qsim.simulate(
            "adult",
            objective=qsim.LogisticRegression(l2=1e-3),
            method=method(step=qsim.steps.TimesTheory(multiple)),
            compressor=compressor,
            workers=16,
            rounds=200,
            evaluate_every=200,
        ).axis("suboptimality")[-1]
        for multiple in multiples
    ]

fig, ax = plt.subplots()
for name, several in ends.items():
    ax.loglog(multiples, several, "o-", label=name)
ax.set(xlabel="step, in multiples of theory", ylabel="suboptimality after 200 rounds", ylim=(1e-5, 1))
ax.legend()
plt.show()

best = {name: multiples[np.nanargmin(several)] for name, several in ends.items()}
print("best multiples:", best)
assert best["DIANA"] == 2
assert best["EF21"] == 64

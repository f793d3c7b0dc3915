"""
How much do seeds differ?
=========================

Enough for a single one to mislead. The medians of 20 seeds say in every round that four levels are better than one; by
seed 0 alone it is the other way round now and then. Bands hold the middle 80% of the runs.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

fig, ax = plt.subplots()
medians, singles = [], []
for place, levels in enumerate((1, 4)):
    traces = [
        qsim.simulate(
            "spark_sample",
            objective=qsim.LogisticRegression(l2=0.01),
            method=qsim.SGD(step=0.2, batch=4),
            compressor=qsim.QSGD(levels),
            rounds=150,
            seed=seed,
        )
        for seed in range(20)
    ]
    values = np.stack([trace.axis("suboptimality") for trace in traces])
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
    medians.append(median[20:])
    singles.append(values[0, 20:])
    ax.fill_between(range(151), low, high, color=f"C{place}", alpha=0.25, lw=0)
    ax.plot(values[0], color=f"C{place}", lw=0.5)
    ax.plot(median, color=f"C{place}", label=f"QSGD, {levels} levels: median, 10% to 90%, and seed 0")
ax.set(xlabel="round", ylabel="suboptimality", yscale="log")
ax.legend()
plt.show()

for name, (one, four) in {"the medians": medians, "seed 0 alone": singles}.items():
    print(f"by {name} one level is ahead in {np.mean(one < four):.0%} of the rounds after the 20th")
assert (medians[0] > medians[1]).all()
assert (singles[0] < singles[1]).any()

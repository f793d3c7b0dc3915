"""
Does it matter how rows are shared out?
=======================================

Yes, for compression without memory. Where workers have similar data, their gradients vanish at the minimum, and the
noise of the quantizer with them; where each has one class, they do not, and the loss stays above its minimum.
"""

import matplotlib.pyplot as plt

import qsim

partitions = {
    "shuffled": qsim.datasets.Shuffled(),
    "Dirichlet(0.3)": qsim.datasets.Dirichlet(0.3),
    "sorted by label": qsim.datasets.ByLabel(),
}
runs = {
    name: qsim.Run(
        "adult",
        qsim.LogisticRegression(l2=1e-3),
        qsim.GradientDescent(step=0.5),
        qsim.QSGD(levels=1),
        workers=16,
        partition=partition,
        rounds=600,
        evaluate_every=1,
    )
    for name, partition in partitions.items()
}
traces = {name: qsim.simulate(run) for name, run in runs.items()}

fig, ax = plt.subplots()
qsim.plot(traces, x="round", y="suboptimality", ax=ax)
plt.show()

# %%
# Heterogeneity is the mean square of the workers' gradients at the minimum, which qsim computes:

for name, run in runs.items():
    end = traces[name].axis("suboptimality")[-100:].max()
    print(f"{name}: heterogeneity {run.problem().heterogeneity:.3g}, ends at {end:.2g}")
last = [trace.axis("suboptimality")[-100:].max() for trace in traces.values()]
assert last == sorted(last)

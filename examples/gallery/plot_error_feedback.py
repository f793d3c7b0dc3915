"""
What does error feedback do for Top-k?
======================================

Top-3 alone stops far from the minimum: what it leaves out is lost, in every round the same. With error feedback the
worker keeps it and sends it later, and the loss goes on falling, for the same bits.
"""

import matplotlib.pyplot as plt

import qsim

compressors = {"Top-3": qsim.TopK(3), "Top-3 with error feedback": qsim.ErrorFeedback(qsim.TopK(3))}
traces = {
    name: qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.GradientDescent(step=0.5),
        compressor=compressor,
        workers=16,
        partition=qsim.datasets.ByLabel(),
        rounds=1000,
        evaluate_every=10,
    )
    for name, compressor in compressors.items()
}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits_up", y="suboptimality", ax=ax)
plt.show()

without, with_memory = (trace.axis("suboptimality")[-1] for trace in traces.values())
print(f"Top-3 ends at {without:.2g}, with error feedback at {with_memory:.2g}")
assert with_memory < without / 10

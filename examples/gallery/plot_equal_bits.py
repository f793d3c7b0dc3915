"""
Which compressor gets furthest with the same bits?
==================================================

On Adult, a budget of 2 million bits up buys 33 rounds without compression and hundreds with it. QSGD with 4 levels gets
furthest here, then Top-k with error feedback, then natural compression; sending float32 is last.
"""

import matplotlib.pyplot as plt

import qsim

compressors = {
    "float32": qsim.Identity(),
    "natural compression": qsim.NaturalCompression(),
    "Top-5%, error feedback": qsim.ErrorFeedback(qsim.TopK(0.05)),
    "QSGD, 4 levels": qsim.QSGD(levels=4),
}
traces = {
    name: qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.GradientDescent(step=0.5),
        compressor=compressor,
        workers=16,
        rounds=5000,
        until=qsim.stopping.Bits(2e6, "up"),
        evaluate_every=5,
    )
    for name, compressor in compressors.items()
}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits_up", y="suboptimality", ax=ax)
plt.show()

# %%
# What each of them ends at, best first:

ends = {name: trace.axis("suboptimality")[-1] for name, trace in traces.items()}
for name in sorted(ends, key=ends.get):
    print(f"{name}: {ends[name]:.2g} after {traces[name].axis('round')[-1]} rounds")
assert sorted(ends, key=ends.get, reverse=True) == list(compressors)

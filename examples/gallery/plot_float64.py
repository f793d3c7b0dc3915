"""
How far down can a gradient norm go?
====================================

With float32 weights and gradients to about 1e-8, where rounding takes over. With float64 weights sent down, workers
compute in float64, and the norm falls below 1e-13; the compressed differences of DIANA may stay 32 bits.
"""

import matplotlib.pyplot as plt

import qsim

traces = {
    dtype: qsim.simulate(
        "spark_sample",
        objective=qsim.LogisticRegression(l2=0.1),
        method=qsim.DIANA(),
        compressor=qsim.QSGD(levels=4),
        downlink=qsim.downlinks.DenseWeights(dtype),
        rounds=900,
        evaluate_every=5,
    )
    for dtype in ("float32", "float64")
}

fig, ax = plt.subplots()
qsim.plot(traces, x="round", y="gradient_norm", ax=ax)
plt.show()

single, double = (trace.axis("gradient_norm")[-1] for trace in traces.values())
print(f"float32: {single:.1g}, float64: {double:.1g}")
assert double < 1e-13 < 1e-9 < single

"""
What can be done with one bit per coordinate?
=============================================

Signs with a scale do not come to the minimum by themselves; with error feedback they do. Two means, one for each sign,
bring no more for their bits here. DRIVE rotates the vector at random first, is unbiased, and is ahead without memory.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

compressors = {
    "ScaledSign, no memory": qsim.ScaledSign(),
    "ScaledSign, error feedback": qsim.ErrorFeedback(qsim.ScaledSign()),
    "OneBit, error feedback": qsim.ErrorFeedback(qsim.OneBit()),
    "DRIVE": qsim.DRIVE(),
}
traces = {
    name: qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.GradientDescent(step=0.5),
        compressor=compressor,
        workers=16,
        partition=qsim.datasets.ByLabel(),
        rounds=400,
        evaluate_every=4,
    )
    for name, compressor in compressors.items()
}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits_up", y="suboptimality", ax=ax)
plt.show()

at = {
    name: np.interp(8e5, trace.axis("bits_up")[::4], trace.axis("suboptimality")[::4]) for name, trace in traces.items()
}
for name, gap in at.items():
    print(f"{name}: {gap:.2g} after 800,000 bits")
assert min(at, key=at.get) == "DRIVE"
assert at["ScaledSign, no memory"] > 0.1
assert at["OneBit, error feedback"] > 0.9 * at["ScaledSign, error feedback"]

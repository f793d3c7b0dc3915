"""
How is a compressor of one's own compared?
==========================================

It is a class with one method. Here: ternary numbers with the mean magnitude as their scale, which are biased and need
error feedback. TernGrad is ahead at first; then its noise, which does not vanish, stops it, and ours goes on.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim


@qsim.option
class MeanTernary(qsim.compressors.Compressor):
    """Keeps the signs of what is above half the mean magnitude, with the mean magnitude of what is kept."""

    emits = qsim.batch.Levels

    def quantize(self, v, key):
        kept = np.abs(v) > np.abs(v).mean() / 2
        scale = np.abs(v[kept]).mean() if kept.any() else 0.0
        return qsim.batch.Levels.single(np.sign(v) * kept, scale=scale, s=1)

    def contraction(self, n):
        return 1 / n  # what is kept has at least the largest coordinate


# %%
# The bytes are made, counted and decoded without a line for it. ``qsim verify "mine.py:MeanTernary()"`` checks what it
# claims (:doc:`/your-own-compressor`).

compressors = {"TernGrad": qsim.TernGrad(), "ours, with error feedback": qsim.ErrorFeedback(MeanTernary())}
method = qsim.GradientDescent(step=0.5)
options = {
    "objective": qsim.LogisticRegression(l2=1e-3),
    "method": method,
    "workers": 16,
    "rounds": 500,
    "partition": qsim.datasets.ByLabel(),
}
traces = {name: qsim.simulate("adult", compressor=c, evaluate_every=5, **options) for name, c in compressors.items()}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits_up", y="suboptimality", ax=ax)
plt.show()

theirs, ours = (trace.axis("suboptimality")[-1] for trace in traces.values())
print(f"TernGrad ends at {theirs:.2g}, ours at {ours:.2g}")
assert ours < theirs / 2

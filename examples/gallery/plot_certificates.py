"""
Do compressors scatter as much as they may?
===========================================

A certificate bounds the variance for all vectors. Rand-k attains it for every vector, QSGD for constant ones; for
Gaussian ones QSGD scatters a little less, and TernGrad several times less.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

n, draws = 256, 400
vectors = {"Gaussian": np.random.default_rng(0).standard_normal(n), "constant": np.ones(n), "single": np.eye(n)[0]}


def measured(compressor, v):
    """Return the mean square error over draws, relative to the square of the norm."""
    channel, keys = qsim.Channel(compressor), qsim.Key(1).words(0, draws)
    batch = qsim.batch.Vectors.dense(np.tile(v.astype(np.float32), (draws, 1)))
    error = channel.unpack(*channel.pack(batch, keys), keys).to_dense() - batch.to_dense()
    return (error**2).sum(axis=1).mean() / (v**2).sum()


shown = [qsim.QSGD(1), qsim.QSGD(4), qsim.TernGrad(), qsim.RandK(32), qsim.NaturalCompression(), qsim.DRIVE()]
compressors = dict(zip(["QSGD(1)", "QSGD(4)", "TernGrad", "RandK(32)", "natural", "DRIVE"], shown, strict=True))

fig, ax = plt.subplots()
ax.plot([c.variance(n) for c in compressors.values()], "k_", ms=24, label="certificate")
for name, v in vectors.items():
    found = [measured(compressor, v) for compressor in compressors.values()]
    ax.plot(found, "o", label=name)
    assert all(m < 1.2 * c.variance(n) for m, c in zip(found, compressors.values(), strict=True))
ax.set_xticks(range(len(compressors)), compressors)
ax.set(ylabel="variance, relative", yscale="symlog", ylim=(-0.2, 30))
ax.legend()
plt.show()

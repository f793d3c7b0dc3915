"""
Which compressor suits the gradients that I have?
=================================================

Compressors are compared on recorded vectors, without any training: the error that they make against the bits that they
send. For gradients of Adult it is Top-k below one bit a number, and QSGD from two bits on; Rand-k is behind at any.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

data, objective = qsim.load("adult"), qsim.LogisticRegression(l2=0.0)
gradients = []
for seed in range(16):  # yours: np.load("gradients.npy"), a row per gradient
    rows = data.take(np.random.default_rng(seed).choice(len(data), 500, replace=False))
    gradients.append(objective.gradient(np.zeros(data.features), rows))
gradients = np.array(gradients, dtype=np.float32)


def cost(compressor):
    """Return bits per number, and the mean square error relative to the vector."""
    channel, keys = qsim.Channel(compressor), qsim.Key(0).words(0, len(gradients))
    header, packets = channel.pack(qsim.batch.Vectors.dense(gradients), keys)
    error = channel.unpack(header, packets, keys).to_dense() - gradients
    return packets.bits / gradients.size, (error**2).sum() / (gradients**2).sum()


families = {
    "QSGD(levels)": [qsim.QSGD(levels) for levels in (1, 2, 4, 8, 16, 64)],
    "TopK(k)": [qsim.TopK(k) for k in (2, 4, 8, 16, 32, 64)],
    "RandK(k)": [qsim.RandK(k) for k in (8, 16, 32, 64, 120)],
}

costs = {name: np.array([cost(compressor) for compressor in compressors]).T for name, compressors in families.items()}

fig, ax = plt.subplots()
for name, (bits, error) in costs.items():
    ax.plot(bits, error, "o-", label=name)
ax.set(xlabel="bits per number", ylabel="mean square error, relative", xscale="log", yscale="log")
ax.legend()
plt.show()

at = {name: np.interp(np.log([0.8, 2.5]), np.log(bits), np.log(error)) for name, (bits, error) in costs.items()}
assert at["TopK(k)"][0] < at["QSGD(levels)"][0]
assert at["QSGD(levels)"][1] < at["TopK(k)"][1] < at["RandK(k)"][1]

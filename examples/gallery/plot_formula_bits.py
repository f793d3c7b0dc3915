"""
Are bits by a formula the bits that are sent?
=============================================

Often not. Papers compute the length of a message; here it stands against the bytes of packets. By the formulas signs
are cheaper than QSGD with 16 levels, by bytes dearer; natural dithering is sent in an eighth of what its formula says.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

n, draws = 10_000, 8
v = qsim.batch.Vectors.dense(np.random.default_rng(0).standard_normal((draws, n)).astype(np.float32))
shown = [
    qsim.QSGD(1),
    qsim.QSGD(16),
    qsim.QSGD(100),
    qsim.TernGrad(),
    qsim.NaturalCompression(),
    qsim.NaturalDithering(4),
    qsim.TopK(100),
    qsim.Sign(),
    qsim.EDEN(2),
]
formula = {str(c).removeprefix("qsim."): qsim.formulas.message_bits(c, n) / n for c in shown}
sent = {
    str(c).removeprefix("qsim."): qsim.Channel(c).pack(v, qsim.Key(1).words(0, draws))[1].bits / draws / n
    for c in shown
}

fig, ax = plt.subplots()
at = np.arange(len(shown))
ax.barh(at - 0.2, formula.values(), height=0.4, label="by the formula")
ax.barh(at + 0.2, sent.values(), height=0.4, label="in packets")
ax.set_yticks(at, formula)
ax.set(xlabel="bits per number", xscale="log")
ax.invert_yaxis()
ax.legend()
plt.show()

assert formula["Sign()"] < formula["QSGD(levels=16)"]
assert sent["Sign()"] > sent["QSGD(levels=16)"]
name = "NaturalDithering(levels=4)"
print(f"natural dithering: {sent[name] / formula[name]:.2f} of its formula")
assert 0.11 < sent[name] / formula[name] < 0.14

"""
How close to the entropy are the codes?
=======================================

The entropy of the levels is what an ideal coder pays that knows how often each occurs. rANS comes within 3% of it where
there are many non-zeros; Golomb-Rice is the shortest where there are few, and never more than 30% above.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

v = qsim.batch.Vectors.dense(np.random.default_rng(0).standard_normal((4, 10_000)).astype(np.float32))
keys = qsim.Key(0).words(0, 4)
levels = 2 ** np.arange(0, 9)
codecs = [qsim.codecs.RANS(), qsim.codecs.GolombRice(), qsim.codecs.Elias("gamma"), qsim.codecs.Varint()]
lengths = {type(codec).__name__: [] for codec in codecs}
entropy = []
for s in levels:
    message = qsim.QSGD(int(s)).compress(v, keys)
    entropy.append(qsim.entropy.entropy_bits(message).sum())
    for codec in codecs:
        lengths[type(codec).__name__].append(codec.encode(message).bits)

ratios = {name: np.divide(bits, entropy) for name, bits in lengths.items()}

fig, ax = plt.subplots()
for name, ratio in ratios.items():
    ax.semilogx(levels, ratio, "o-", label=name, base=2)
ax.axhline(1, color="k", lw=0.8)
ax.set(xlabel="levels of QSGD", ylabel="length over entropy")
ax.legend()
plt.show()

for name, ratio in ratios.items():
    print(f"{name}: {ratio.min():.2f} to {ratio.max():.2f} times the entropy")
assert ratios["RANS"][-1] < 1.03
assert ratios["GolombRice"].max() < 1.3
assert min(ratios, key=lambda name: ratios[name][0]) == "GolombRice"

"""
How many levels reach a target with the fewest bits?
====================================================

Eight, here. Each run ends when it is within 0.005 of the minimum: with fewer levels it takes more rounds, with more
levels a round takes more bits, and the rounds hardly become fewer.
"""

import matplotlib.pyplot as plt

import qsim

levels = (1, 2, 4, 8, 16, 64, 128)
traces = [
    qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.DIANA(),
        compressor=qsim.QSGD(s),
        workers=16,
        until=qsim.stopping.Suboptimality(5e-3),
        rounds=2000,
        evaluate_every=5,
    )
    for s in levels
]
bits = [trace.axis("bits_up")[-1] for trace in traces]
rounds = [trace.axis("round")[-1] for trace in traces]

fig, ax = plt.subplots()
ax.semilogx(levels, bits, "o-", base=2)
for s, b, t in zip(levels, bits, rounds, strict=True):
    ax.annotate(f"{t} rounds", (s, b), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
ax.set(xlabel="levels of QSGD", ylabel="bits up until the target", ylim=(0, 1.15 * max(bits)))
plt.show()

best = levels[bits.index(min(bits))]
print(f"the fewest bits: {min(bits):,}, with {best} levels")
assert best == 8

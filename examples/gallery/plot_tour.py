"""
A tour in ten minutes
=====================

From a training without compression to a comparison that can be trusted: data, workers, a compressor, what goes over the
wire, seeds, theory. Everything on this page was run when the page was built; script and notebook can be downloaded at
its end.
"""

# %%
# Data and an objective
# ---------------------
#
# ``adult`` comes with qsim: 32,561 people, described by 121 binary features, and whether they earn more than 50,000
# dollars a year. Any LIBSVM file, table or array can take its place (:doc:`/data`). The objective is logistic
# regression with a small regulariser :math:`\frac{\lambda}{2}\lVert w\rVert^2`.

import matplotlib.pyplot as plt

import qsim

data = qsim.load("adult")
objective = qsim.LogisticRegression(l2=1e-3)
print(data)

# %%
# A run without compression
# -------------------------
#
# The rows are shared out to 16 workers. In every round each computes the gradient of its rows, and the server takes a
# step with their mean. Where no step is given, the method takes that of its theorem, here :math:`1/L`.

plain = qsim.simulate(
    data, objective=objective, method=qsim.GradientDescent(), compressor=qsim.Identity(), workers=16, rounds=200
)
print(plain)

# %%
# The trace records every round; bits are those of the encoded messages of all workers.

print(plain.frame[["round", "loss", "suboptimality", "bits_up", "bits_down"]].iloc[[0, 1, 100, 200]].to_string())

# %%
# A compressor
# ------------
#
# :class:`qsim.QSGD` rounds every coordinate at random to one of a few levels of the norm, without bias. It states how
# much noise that adds: its *variance* :math:`\omega`, with :math:`\mathbb{E}\lVert
# Q(v)-v\rVert^2\le\omega\lVert v\rVert^2`.

qsgd = qsim.QSGD(levels=4)
print("omega =", qsgd.variance(data.features))

quantized = qsim.simulate(
    data, objective=objective, method=qsim.GradientDescent(), compressor=qsgd, workers=16, rounds=200
)
print(f"{plain.axis('bits_up')[-1] / quantized.axis('bits_up')[-1]:.1f} times fewer bits up")

# %%
# What goes over the wire
# -----------------------
#
# A :class:`qsim.Channel` is a compressor with a codec. It turns vectors into packets, whose bytes are what is counted,
# and back into the vectors that the server computes with (:doc:`/wire-format`).

channel = qsim.Channel(qsgd)
gradient = qsim.batch.Vectors.dense([[0.5, 0.0, -2.0, 0.01, 0.0, 1.0]])
key = qsim.Key(0).words(0, 1)  # all randomness comes from keys, so that every run can be repeated
header, packets = channel.pack(gradient, key)
print("header", header.hex(" "))
print("packet", packets[0].hex(" "), f"({packets.bits} bits)")
print("stands for", channel.unpack(header, packets, key).to_dense())

# %%
# Methods for compressed gradients
# --------------------------------
#
# With a constant step, plain gradient descent keeps the noise of the quantizer. :class:`qsim.DIANA` compresses the
# differences from what the server already knows, and these vanish. Rows are sorted by label here, so that all but one
# of the workers see a single label.

runs = {
    "uncompressed": (qsim.GradientDescent(), qsim.Identity()),
    "QSGD": (qsim.GradientDescent(), qsim.QSGD(4)),
    "QSGD with DIANA": (qsim.DIANA(), qsim.QSGD(4)),
}
traces = {
    name: [
        qsim.simulate(
            data,
            objective=objective,
            method=method,
            compressor=compressor,
            workers=16,
            partition=qsim.datasets.ByLabel(),
            until=qsim.stopping.Bits(6e7),
            rounds=2000,
            evaluate_every=20,
            seed=seed,
        )
        for seed in range(3)
    ]
    for name, (method, compressor) in runs.items()
}

# %%
# A comparison
# ------------
#
# A run may end at a budget, here 60 million bits both ways, so that all curves have spent the same. Bands reach from
# the smallest to the largest of three seeds.

fig, ax = plt.subplots()
qsim.plot(traces, x="bits", y="suboptimality", ax=ax)
plt.show()

ends = {name: [trace.axis("suboptimality")[-1] for trace in several] for name, several in traces.items()}
for name, several in ends.items():
    print(f"{name}: {min(several):.2g} to {max(several):.2g}")
assert max(ends["QSGD with DIANA"]) < min(ends["uncompressed"]) < min(ends["QSGD"])

# %%
# At first QSGD is ahead of no compression. Then it stalls where its noise balances its steps, and is overtaken; with
# DIANA the noise vanishes, and it stays ahead. The downlink, which carries uncompressed weights here, is most of what
# is counted: an example in the :doc:`/gallery/index` shows what is gained by compressing it as well.
#
# Where next: which compressor when (:doc:`/compressors`), which method (:doc:`/methods`), and how many seeds a
# conclusion needs (:doc:`/statistics`).

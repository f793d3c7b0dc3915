"""
Is the downlink worth compressing?
==================================

Once the uplink is compressed, most of what is sent goes down. With the weights compressed as well, by Top-k with the
server's memory, the same loss is reached with a fraction of the bits.
"""

import matplotlib.pyplot as plt

import qsim

ways = {
    "neither": (qsim.Identity(), qsim.downlinks.DenseWeights()),
    "up": (qsim.QSGD(levels=4), qsim.downlinks.DenseWeights()),
    "up and down": (qsim.QSGD(levels=4), qsim.downlinks.CompressedWeights(qsim.TopK(0.1))),
}
traces = {
    name: qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.GradientDescent(step=0.5),
        compressor=compressor,
        downlink=downlink,
        workers=16,
        until=qsim.stopping.Suboptimality(2e-3),
        rounds=3000,
        evaluate_every=2,
    )
    for name, (compressor, downlink) in ways.items()
}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits", y="suboptimality", ax=ax)
ax.set_xscale("log")
plt.show()

for name, trace in traces.items():
    down = trace.axis("bits_down")[-1] / trace.axis("bits")[-1]
    print(f"compressed {name}: {trace.axis('bits')[-1] / 1e6:.1f} million bits, {down:.0%} of them down")
neither, up, both = (trace.axis("bits")[-1] for trace in traces.values())
assert both < up / 3 < neither / 3

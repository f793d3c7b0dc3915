"""
Does it matter where workers run?
=================================

Not for the numbers. In this process, in two others, or on a cluster, a run gives the same weights to the last bit, and
the same bytes are sent. ``Spark()`` or ``Ray()`` in place of ``Processes(2)`` runs the workers on a cluster.
"""

import matplotlib.pyplot as plt
import numpy as np

import qsim

run = qsim.Run(
    "adult",
    qsim.LogisticRegression(l2=1e-3),
    qsim.DIANA(),
    qsim.QSGD(levels=4),
    workers=16,
    rounds=100,
    evaluate_every=5,
)

if __name__ == "__main__":  # other processes import this file, and must not run it
    engines = {"Serial()": qsim.engines.Serial(), "Processes(2)": qsim.engines.Processes(2)}
    traces = {name: qsim.simulate(run, engine=engine) for name, engine in engines.items()}

    fig, ax = plt.subplots()
    for (name, trace), style in zip(traces.items(), ({"lw": 4, "alpha": 0.4}, {"ls": "--"}), strict=True):
        qsim.plot({name: trace}, x="bits", y="suboptimality", ax=ax, **style)
    plt.show()

    here, there = traces.values()
    assert np.array_equal(here.weights, there.weights)
    assert here.frame.equals(there.frame)
    print("the same, to the last bit")

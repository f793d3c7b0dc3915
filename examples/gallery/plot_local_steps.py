"""
Do local steps save communication?
==================================

At first: after ten rounds, 16 local steps are much further than one. But where their data differ, a constant
step leads each of them to its own minimum, and the more local steps they take, the higher the loss ends.
"""

import matplotlib.pyplot as plt

import qsim

traces = {
    f"{steps} local steps": qsim.simulate(
        "adult",
        objective=qsim.LogisticRegression(l2=1e-3),
        method=qsim.LocalSGD(step=0.5, steps=steps, batch=32),
        workers=16,
        partition=qsim.datasets.Dirichlet(0.3),
        rounds=300,
        evaluate_every=2,
    )
    for steps in (1, 4, 16)
}

fig, ax = plt.subplots()
qsim.plot(traces, x="bits", y="suboptimality", ax=ax)
plt.show()

early, late = ([trace.axis("suboptimality")[-1 - back] for trace in traces.values()] for back in (290, 0))
print("after 10 rounds:", *(f"{gap:.2g}" for gap in early))
print("after 300 rounds:", *(f"{gap:.2g}" for gap in late))
assert early == sorted(early, reverse=True)
assert late == sorted(late)

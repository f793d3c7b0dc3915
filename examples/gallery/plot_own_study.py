"""
How does a study answer a question with its uncertainty?
========================================================

A study says which runs are made and what is asked of them. Runs are kept, and differences paired by seed. Here: do
larger batches help a coarse quantizer? Yes: the 95% interval of the difference excludes zero.
"""

from dataclasses import replace

import matplotlib.pyplot as plt

import qsim
from qsim.study import Cell, Panel, Settings, Study, draw_band, panels, run_study


def cells(settings):
    """Return the runs: two batch sizes, each with all seeds."""
    run = qsim.Run(
        settings.data,
        qsim.LogisticRegression(l2=0.01),
        qsim.SGD(step=0.1),
        qsim.QSGD(levels=1),
        workers=settings.workers,
        rounds=settings.rounds,
    )
    return [
        Cell(f"batch {batch}", replace(run, method=qsim.SGD(step=0.1, batch=batch), seed=seed))
        for batch in (1, 16)
        for seed in range(settings.seeds)
    ]


study = Study(
    title="Batches under a coarse quantizer",
    questions=["Does a larger batch help?"],
    defaults=Settings(data="spark_sample", workers=8, rounds=60, seeds=8),
    cells=cells,
    setting=lambda settings: f"QSGD with one level. {settings.statistics}",
    answers=lambda results: [str(results.compare(["batch 16"], "batch 1", "loss")["batch 16"])],
    draw=lambda results: panels(results, Panel("round", "loss")),
    template="batch 16",
)

# %%
# ``qsim study mine.py`` would run it, draw it and write a caption with the answer. In a script:

results = run_study(study, cache=False, jobs=1)
difference = results.compare(["batch 16"], "batch 1", "loss")["batch 16"]
print("batch 16 minus batch 1:", difference)
assert difference.high < 0

fig, ax = plt.subplots()
for place, curve in enumerate(results.curves):
    draw_band(ax, results.band(curve, "loss"), place, curve)
ax.set(xlabel="round", ylabel="training loss")
ax.legend()
plt.show()

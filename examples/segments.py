"""A model for each segment of the data, all of them started at one for all rows, side by side in processes.

python examples/segments.py
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pandas as pd

import qsim

OBJECTIVE = qsim.LogisticRegression(l2=1e-3, intercept=True)


def fit(common, data):
    """Go on from the common model, on the rows of a segment."""
    method, start = qsim.SGD(step=0.2, batch=16), qsim.starts.Weights(common)
    return qsim.simulate(data, objective=OBJECTIVE, method=method, start=start, rounds=200, optimum=False)


def main():
    """Train a model for all rows and one for each country, and compare them on new rows."""
    random, rows = np.random.default_rng(0), 6000
    frame = pd.DataFrame({"age": random.standard_normal(rows), "hours": random.standard_normal(rows)})
    country = random.choice(["fr", "it", "pl"], rows)
    slope = np.where(country == "pl", -1.5, 1.5)  # what age does depends on the country
    clicked = random.random(rows) < 1 / (1 + np.exp(-slope * frame["age"] - frame["hours"]))

    data = qsim.Dataset.from_arrays(frame, clicked)  # before it is cut, so that all segments have the same features
    new = random.random(rows) < 0.3
    old = {name: data.take(np.flatnonzero((country == name) & ~new)) for name in np.unique(country)}
    common = fit(np.zeros(data.features + 1), data.take(np.flatnonzero(~new)))
    with ProcessPoolExecutor() as pool:
        models = dict(zip(old, pool.map(partial(fit, common), old.values()), strict=True))

    for name, own in models.items():
        unseen = data.take(np.flatnonzero((country == name) & new))
        losses = [qsim.evaluate(model, unseen, OBJECTIVE).loss for model in (common, own)]
        print(f"{name}: {len(unseen)} rows, loss {losses[0]:.3f} by the common model, {losses[1]:.3f} by its own")


if __name__ == "__main__":
    main()

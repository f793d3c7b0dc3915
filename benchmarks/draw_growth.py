"""Draw `benchmarks/growth/results.csv`: rounds a second over the workers, the batch and the features.

    python -m benchmarks growth --cpu-time --out benchmarks/growth
    python -m benchmarks.draw_growth

Points are measured; the line is what the round's arithmetic alone would allow, by the kernels' rates in the cache.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent / "growth"
AXES = ("workers", "batch", "features")


def read() -> tuple[list[tuple[dict[str, int], float, float]], str]:
    """Return the points, each with rounds a second measured and allowed, and the machine."""
    with (FOLDER / "results.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == "growth"]
    points = []
    for row in rows:
        numbers = re.findall(r"[\d.]+", row["case"])
        point = dict(zip(AXES, map(int, numbers), strict=True))
        points.append((point, 1e3 / float(row["ms"]), 1e3 / float(row["slower ms"])))
    return points, rows[0]["cpu"]


def draw() -> None:
    """Draw a panel for each axis, of the points that differ in it alone."""
    points, machine = read()
    matplotlib.rcParams.update({"font.size": 8, "svg.hashsalt": "growth", "axes.spines.top": False})
    figure = Figure(figsize=(7.2, 2.7), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    common = {"workers": 20, "batch": 16, "features": 10_000}
    for panel, axis, label in zip(panels, AXES, ("workers W", "batch b (rows)", "features d"), strict=True):
        others = [other for other in AXES if other != axis]
        line = sorted(
            (point[axis], measured, allowed)
            for point, measured, allowed in points
            if all(point[other] == common[other] for other in others)
        )
        xs, measured, allowed = zip(*line, strict=True)
        panel.loglog(xs, allowed, color="0.45", linestyle="--", linewidth=1, label="its arithmetic, in the cache")
        panel.loglog(xs, measured, color="C0", marker="o", markersize=4, linewidth=1, label="measured")
        panel.set_xlabel(label)
        panel.set_title(
            ", ".join(f"{other[0].replace('w', 'W').replace('f', 'd')} = {common[other]:,}" for other in others)
        )
        panel.grid(alpha=0.25, linewidth=0.5)
        panel.set_axisbelow(True)
    panels[0].set_ylabel("rounds a second")
    panels[2].legend(frameon=False, loc="lower left")
    figure.suptitle(f"SGD with QSGD(4), rows of 14 ones; CPU time of one thread on {machine}", fontsize=7, color="0.3")
    figure.savefig(FOLDER / "growth.png", dpi=200)


if __name__ == "__main__":
    draw()

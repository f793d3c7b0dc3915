"""Runs whose downlink is compressed too, beside those that send dense weights, and what all of them send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qsim.compressors import TopK
from qsim.downlinks import CompressedWeights, DenseWeights, Downlink, SparseSum
from qsim.study.results import Results
from qsim.study.words import table

DOWNLINKS: Mapping[str, Downlink] = {
    "": DenseWeights(),
    "; sparse sum": SparseSum(),
    "; Top-6 weights": CompressedWeights(TopK(6)),
}
"""By what is added to a curve's name: dense float32 weights, the non-zeros of the sum, the server's error by Top-6."""

EXPLAINED = (
    "Downlinks: dense float32 weights; the sum of the messages as float32 for its non-zeros (sparse sum); the change of"
    " the weights by Top-6 with the server's memory (Top-6 weights)."
)
"""What a caption says of them."""


def savings(results: Results, curves: Sequence[str], dense: str) -> str:
    """Return a table of what curves with all downlinks send and end at, against `dense` with dense weights.

    Curves without a compressed downlink have the first row alone.
    """
    ups, both = (results.final(dense, quantity) for quantity in ("bits_up", "bits"))
    rows = {}
    for curve in (name + suffix for name in curves for suffix in DOWNLINKS):
        if curve in results.traces:
            up, down = (results.final(curve, quantity) for quantity in ("bits_up", "bits_down"))
            rows[curve.replace("; ", ", ")] = (
                f"{up:,.0f}",
                f"{down:,.0f}",
                f"{ups / up:.3g}",
                f"{both / (up + down):.3g}",
                f"{results.final(curve, 'loss'):.5f}",
            )
    columns = (
        "uplink bits",
        "downlink bits",
        "times fewer, uplink alone",
        "times fewer, uplink + downlink",
        "final loss",
    )
    return table(columns, rows)

"""Runs whose downlink is compressed too, beside those that send dense weights, and what all of them send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qsim.compressors import TopK
from qsim.downlinks import CompressedWeights, DenseWeights, Downlink, SparseSum
from qsim.study.comparisons import compare
from qsim.study.figures import look
from qsim.study.report_text import bullets, table
from qsim.study.results import Results

SPARSE, TOP = "; sparse sum", "; Top-6 weights"
DOWNLINKS: Mapping[str, Downlink] = {
    "": DenseWeights(),
    SPARSE: SparseSum(),
    TOP: CompressedWeights(TopK(6)),
}
"""By what is added to a curve's name: dense float32 weights, the non-zeros of the sum, the server's error by Top-6."""

EXPLAINED = (
    "Downlinks: dense float32 weights; the sum of the messages as float32 for its non-zeros (sparse sum); the change of"
    " the weights by Top-6 with the server's memory (Top-6 weights)."
)
"""The downlinks, in words for a caption."""


_MARKERS = {SPARSE: "<", TOP: "d"}


def by_downlink(labels: Sequence[str]) -> Callable[[str], dict[str, Any]]:
    """Return the style of a curve: colour and dash say the compressor, as in `labels`, hollow markers the downlink."""

    def style(curve: str) -> dict[str, Any]:
        name, separator, down = curve.partition("; ")
        found = look(labels.index(name))
        if separator + down in _MARKERS:
            found |= {"marker": _MARKERS[separator + down], "markerfacecolor": "none", "markersize": 5.5}
        return found

    return style


def effect_of_downlink(results: Results, plain: str, quantized: str, suffix: str = TOP) -> str:
    """Say what a downlink does to the final loss without a quantizer, and what the quantizer does on that downlink."""
    last = {name: results.samples(name, "loss")[:, -1] for name in (plain, plain + suffix, quantized + suffix)}
    pairs = {
        f"the downlink's, {plain}": last[plain + suffix] - last[plain],
        f"the quantizer's, on that downlink ({quantized})": last[quantized + suffix] - last[plain + suffix],
    }
    found = compare(pairs, np.zeros(results.settings.seeds), results.settings.bands)
    return (
        f"What {suffix.removeprefix('; ')} do to the final loss is the downlink's effect, not the quantizer's, as the"
        f" run that quantizes nothing shows. Differences of final losses:"
        f"{bullets(f'{name}: {difference}' for name, difference in found.items())}\n\nWhy a downlink with a memory"
        " changes the loss is not tested here."
    )


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

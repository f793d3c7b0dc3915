"""Figures: the same numbers give the same bytes, what is drawn is what was measured, and nothing is covered."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import qsim
from qsim.study import (
    COLUMN_WIDTH,
    Cell,
    Comparison,
    Panel,
    Results,
    Settings,
    Study,
    draw,
    draw_bound,
    draw_comparisons,
    figure_grid,
    legend_below,
    log_axes,
    look,
    output,
    panel_letters,
    panels,
)

RUN = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.1),
    method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    workers=2,
    rounds=4,
)
CURVES = {"plain": qsim.Identity(), "s = 1": qsim.QSGD(1)}


@pytest.fixture(scope="module")
def results() -> Results:
    """Two curves of three seeds; the seeds of the second end after 4, 4 and 2 rounds."""
    cells = [
        Cell(curve, replace(RUN, compressor=compressor, seed=seed, rounds=2 if (curve, seed) == ("s = 1", 2) else 4))
        for curve, compressor in CURVES.items()
        for seed in range(3)
    ]
    return Results(Settings("spark_sample", 2, 4, 3), cells, [qsim.simulate(cell.run) for cell in cells])


PANELS = (
    Panel("round", "loss", "loss"),
    Panel("bits_up", "suboptimality", "bits", x_scale="log", y_scale="log", per=2.0, x_label="bits of a worker"),
    Panel("passes", "loss", "minus", minus="plain", y_scale="symlog"),
    Panel("nonzeros", "suboptimality", "ratio", minus="plain"),
)
STUDY = Study(
    title="Two curves",
    questions=("Why?",),
    defaults=Settings("spark_sample", 2, 4, 3),
    cells=lambda settings: [],
    setting=lambda settings: "A setting.",
    answers=lambda results: ["So."],
    draw=lambda results: panels(results, *PANELS, columns=2),
)


def test_the_same_numbers_give_the_same_bytes(results: Results, tmp_path: Path) -> None:
    """PDF, PNG and SVG, drawn anew; fonts are embedded, and no date or path is inside. Another number, other bytes."""
    kinds = ("pdf", "png", "svg")
    for folder in ("first", "second"):
        paths = output.write(tmp_path / folder, "two", STUDY, results, kinds)
        assert [path.suffix for path in paths] == [".pdf", ".png", ".svg", ".csv", ".md", ".json"]
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    pdf, svg = (tmp_path / "first" / "two.pdf").read_bytes(), (tmp_path / "first" / "two.svg").read_text()
    assert b"/FontFile2" in pdf
    for never in (b"/Type3", b"Date", str(tmp_path).encode()):
        assert never not in pdf
    assert "date" not in svg
    other = [trace for traces in results.traces.values() for trace in traces]
    other[3] = qsim.simulate(replace(results.cells[3].run, seed=9))
    changed = Results(results.settings, results.cells, other)
    output.write(tmp_path / "third", "two", STUDY, changed, kinds)
    for kind in kinds:
        assert (tmp_path / "first" / f"two.{kind}").read_bytes() != (tmp_path / "third" / f"two.{kind}").read_bytes()


def test_other_formats_are_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'pdf'"):
        output.write(tmp_path, "two", STUDY, results, ("pdff",))
    assert not list(tmp_path.iterdir())


def test_provenance_has_every_run(results: Results) -> None:
    """Seeds of one run share its text; where a curve's runs differ in more than the seed, each has its own."""
    found = output.provenance("two", results)
    entry = found["curves"]["plain"]
    run = eval(entry["run"], {"qsim": qsim})
    assert [replace(run, seed=seed) for seed in entry["seeds"]] == [c.run for c in results.cells if c.curve == "plain"]
    runs = [eval(text, {"qsim": qsim}) for text in found["curves"]["s = 1"]["runs"]]
    assert runs == [cell.run for cell in results.cells if cell.curve == "s = 1"]
    assert found["qsim"] == qsim.__version__
    assert not {"run", "arguments"} & set(found)  # those of one run are no setting of a study
    assert json.loads(json.dumps(found)) == found


def test_what_is_drawn_are_the_bands(results: Results) -> None:
    figure = panels(results, *PANELS, columns=2)
    for ax, panel in zip(figure.axes, PANELS, strict=True):
        for curve in results.curves:
            if curve == panel.minus:
                continue
            band = results.band(curve, panel.y, panel.minus, axis=panel.x, log=panel.x_scale == "log")
            (line,) = [line for line in ax.lines if line.get_label() == curve]
            np.testing.assert_array_equal(line.get_xdata(), band.at / panel.per)
            np.testing.assert_array_equal(line.get_ydata(), band.mean)
    assert figure.axes[0].lines[1].get_xdata()[-1] == 2  # the shortest seed
    assert figure.axes[0].lines[0].get_xdata()[-1] == 4  # which does not cut the other curve
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["(a) loss", "(b) bits", "(c) minus", "(d) ratio"]
    assert [ax.get_xscale() for ax in figure.axes] == ["linear", "log", "linear", "linear"]
    assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log", "symlog", "linear"]
    labels = [ax.get_xlabel() for ax in figure.axes] + [ax.get_ylabel() for ax in figure.axes[2:]]
    assert labels[:3] == ["iteration", "bits of a worker", "passes over the data"]
    assert labels[4:] == ["training loss, difference", "suboptimality, ratio"]
    assert figure.axes[2].lines[0].get_ydata() == [0, 0]
    assert figure.axes[3].lines[0].get_ydata() == [1, 1]


def test_what_a_log_axis_cannot_show_is_left_out(results: Results) -> None:
    """Non-zeros are 0 at the start; and an axis with nothing above zero stays linear."""
    with figure_grid(1, 2, height=2.0) as (figure, axes):
        draw(results, Panel("round", "nonzeros", y_scale="log"), axes[0, 0], results.curves)
        axes[0, 1].plot([1, 2], [0, -1])
        log_axes(axes[0, 1], "x", "y")
    assert axes[0, 0].lines[0].get_xdata().tolist() == [1, 2, 3, 4]
    assert (axes[0, 1].get_xscale(), axes[0, 1].get_yscale()) == ("log", "linear")
    figure.draw_without_rendering()


@pytest.mark.parametrize("width", [COLUMN_WIDTH, 7.0])
@pytest.mark.parametrize(
    "labels", [["one", "two"], [f"s = {s}" for s in range(7)], ["a long name of a curve, with s = 4"] * 2 + ["b"] * 9]
)
def test_a_legend_fits_the_figure_and_covers_nothing(labels: list[str], width: float) -> None:
    with figure_grid(1, 1, height=2.5, width=width) as (figure, axes):
        for place, label in enumerate(labels):
            axes[0, 0].plot([1, 2], [place, 3], label=f"{label} {place}", **look(place))
        panel_letters(axes.flat, ["a title"])
        legend_below(figure, axes.flat)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0
    assert box.x1 <= whole.x1
    assert box.y0 >= whole.y0 - 1
    assert not box.overlaps(axes[0, 0].get_tightbbox())


def test_looks_differ_without_colour_too() -> None:
    """Sixteen in colour; a dash with a marker tells them apart in black and white, the ninth on by hollow markers."""
    assert len({str(look(place)) for place in range(16)}) == 16
    plain = [{key: value for key, value in look(place).items() if key != "color"} for place in range(16)]
    assert len({str(style) for style in plain}) == 16


def test_comparisons_are_drawn_as_dots_with_intervals() -> None:
    found = {"b": Comparison(1.5, 1.2, 1.9, 0.01, 4, ratio=True), "c": Comparison(0.9, 0.5, 1.4, 0.5, 4, ratio=True)}
    with figure_grid(1, 1, height=2.0) as (_, axes):
        draw_comparisons(axes[0, 0], found, {"b": 3, "c": 4})
    zero, *lines = axes[0, 0].lines
    assert zero.get_xdata() == [1, 1]
    assert [list(line.get_xdata()) for line in lines] == [[1.2, 1.9], [1.5], [0.5, 1.4], [0.9]]
    assert lines[1].get_marker() == look(3)["marker"]
    assert [text.get_text() for text in axes[0, 0].get_yticklabels()] == ["b", "c"]


@pytest.mark.parametrize("ends", [(2100.0, 4900.0), (1200.0, 17000.0), (2.0, 22.0), (100.0, 1e6)])
def test_labels_of_a_log_axis_do_not_overlap_and_there_are_some(ends: tuple[float, float]) -> None:
    with figure_grid(1, 4, height=2.0) as (figure, axes):
        for ax in axes.flat:
            ax.plot(ends, [1.0, 2.0])
            log_axes(ax, "x")
        figure.canvas.draw()
        for ax in axes.flat:
            labels = [label for label in ax.get_xticklabels(which="both") if label.get_text()]
            low, high = ax.get_xlim()
            shown = [label for label in labels if low <= label.get_position()[0] <= high]
            boxes = sorted(label.get_window_extent().extents.tolist() for label in shown)
            assert len(boxes) >= 2
            assert all(left[2] < right[0] for left, right in pairwise(boxes))


def test_curves_that_hide_each_other_are_named(results: Results) -> None:
    """Exactly equal or less than a line's width apart, on every sheet; what is further apart is seen."""
    x = np.linspace(0, 1, 9)
    for others, said in (
        ({"b": x, "c": x + 0.01}, "all 3 curves coincide"),
        ({"b": x, "c": x + 0.05}, "coincide:\na\nb"),
        ({"b": x + 0.05, "c": x + 0.1}, ""),
    ):
        with figure_grid(height=2.0) as (_, axes):
            for name, y in ({"a": x} | others).items():
                axes[0, 0].plot(x, y, label=name)
        assert "".join(text.get_text() for text in axes[0, 0].texts) == said


def test_what_is_said_of_curves_stands_beside_them() -> None:
    """Two points make a diagonal: the corners that it crosses between its points are taken, another is free."""
    with figure_grid(height=2.0) as (_, axes):
        for name in "ab":
            axes[0, 0].plot([0, 1], [0, 1], label=name)
        for name in "cd":
            axes[0, 0].plot([0, 0.02, 0.03, 1], [0, 0, 1, 1], label=name)
    (text,) = axes[0, 0].texts
    assert text.get_position() == (0.98, 0.02)


def test_curves_are_as_long_as_they_are_seen() -> None:
    """Up on the left, across the top between two points, and down on the right: the top is crossed, the bottom free."""
    up = np.linspace(0, 1, 200)
    with figure_grid(height=2.0) as (_, axes):
        for name in "ab":
            axes[0, 0].plot([*(0 * up), *(0 * up + 1)], [*up, *up[::-1]], label=name)
    (text,) = axes[0, 0].texts
    assert text.get_position() == (0.5, 0.02)


def test_a_promise_is_drawn_where_the_theorem_has_it(results: Results) -> None:
    """Over rounds and over bits, inside the limits of the curves; a step that no theorem knows gets none."""
    runs = [replace(RUN, method=qsim.GradientDescent(), seed=seed) for seed in range(2)]
    long = [replace(run, method=qsim.GradientDescent(step=qsim.steps.Constant(9.0))) for run in runs]
    cells = [Cell("theory", run) for run in runs] + [Cell("long", run) for run in long]
    found = Results(Settings("spark_sample", 2, 4, 2), cells, [qsim.simulate(cell.run) for cell in cells])
    with figure_grid(1, 2, height=2.0) as (_, axes):
        for ax, x in zip(axes[0], ("round", "bits_up"), strict=True):
            draw(found, Panel(x, "suboptimality", y_scale="log", per=2.0), ax, found.curves)
            before, limits = len(ax.lines), (ax.get_xlim(), ax.get_ylim())
            for place, curve in enumerate(found.curves):
                draw_bound(found, curve, ax, place, x=x, per=2.0)
            assert (ax.get_xlim(), ax.get_ylim()) == limits
            _, line = ax.lines[before:]
            promise = runs[0].bound()
            np.testing.assert_allclose(line.get_ydata(), promise(np.arange(5)), rtol=1e-3)  # by seed: other shards
            np.testing.assert_array_equal(line.get_xdata(), found.samples("theory", x).mean(axis=0) / 2)
            assert (line.get_ydata() >= found.band("theory", "suboptimality").mean).all()
    assert found.bound("long") is None

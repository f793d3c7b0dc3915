"""Pictures of traces in one call, accuracies, and what notebooks show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qsim

pytestmark = pytest.mark.quick

RUN = qsim.Run(
    "spark_sample",
    objective=qsim.LogisticRegression(l2=0.01),
    method=qsim.GradientDescent(step=0.5),
    workers=4,
    rounds=10,
    evaluate_every=3,
    test="spark_sample",
)


@pytest.fixture(scope="module")
def traces() -> list[qsim.Trace]:
    return [
        qsim.simulate(replace(RUN, compressor=compressor, seed=seed))
        for compressor in (qsim.Identity(), qsim.QSGD(levels=1), qsim.TopK(3))
        for seed in (0, 1, 12)
    ]


def test_seeds_become_one_curve_with_a_band(traces: list[qsim.Trace]) -> None:
    axes = qsim.plot(traces)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Identity()", "QSGD(levels=1)", "TopK(k=3)"]
    assert (len(axes.lines), len(axes.collections)) == (3, 3)
    assert axes.get_yscale() == "log"
    line, several = axes.lines[1], traces[3:6]
    known = np.isfinite(several[0].axis("loss"))
    assert np.flatnonzero(known).tolist() == [0, 3, 6, 9, 10]  # evaluated rounds alone
    values = np.stack([trace.axis("suboptimality")[known] for trace in several])
    assert np.array_equal(line.get_ydata(), np.median(values, axis=0))
    assert np.array_equal(line.get_xdata(), np.mean([trace.axis("bits")[known] for trace in several], axis=0))
    band = axes.collections[1].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (values.min(), values.max())


def test_seeds_that_stopped_at_different_rounds_share_their_first_ones(traces: list[qsim.Trace]) -> None:
    short = qsim.simulate(replace(RUN, compressor=qsim.QSGD(levels=1), rounds=6))
    axes = qsim.plot({"both": [traces[3], short]}, x="round")
    assert axes.lines[0].get_xdata().tolist() == [0, 3, 6]


def test_labels_of_a_mapping_are_kept(traces: list[qsim.Trace]) -> None:
    axes = qsim.plot({"plain": traces[0], "Top-3": traces[6:]}, x="passes", y="loss")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["plain", "Top-3"]
    assert (len(axes.lines), len(axes.collections)) == (2, 1)
    assert axes.get_yscale() == "linear"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("passes over the data", "training loss")
    again = qsim.plot(traces[1], y="test_accuracy", ax=axes, color="k")
    assert again is axes
    assert axes.lines[-1].get_color() == "k"


def test_labels_say_what_differs(traces: list[qsim.Trace]) -> None:
    others = [qsim.simulate(replace(RUN, workers=workers)) for workers in (2, 4)]
    axes = qsim.plot(others, y="loss")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["workers=2", "workers=4"]
    assert qsim.plot(traces[0]).get_legend() is None


def test_a_picture_is_never_blank(traces: list[qsim.Trace]) -> None:
    blind = qsim.simulate(replace(RUN, optimum=False, test=None))
    with pytest.raises(ValueError, match="optimum=True"):
        qsim.plot([traces[0], blind])
    with pytest.raises(ValueError, match="needs test data"):
        blind.plot(y="test_accuracy")
    for nothing in ([], {}, {"a": []}):
        with pytest.raises(ValueError, match="no traces"):
            qsim.plot(nothing)
    for wrong in ([1], {"a": [RUN]}, {"a": "b"}):
        with pytest.raises(TypeError, match="traces must be what qsim.simulate returns"):
            qsim.plot(wrong)
    below = qsim.Trace(dict(traces[0].columns), traces[0].weights, traces[0].provenance)
    below.columns["suboptimality"] = -np.abs(below.columns["suboptimality"])  # by rounding, at the minimum
    assert qsim.plot(below).get_yscale() == "linear"


def test_accuracy_is_one_minus_the_error(traces: list[qsim.Trace]) -> None:
    frame = traces[0].to_frame()
    assert np.array_equal(frame["test_accuracy"], 1 - frame["test_error"], equal_nan=True)
    assert "train_accuracy" not in traces[0].frame  # a copy was made
    targets = qsim.Dataset.from_arrays(np.eye(4), [0.5, 1.5, -1.0, 2.0], kind="targets")
    trace = qsim.simulate(
        targets, objective=qsim.LeastSquares(l2=0.1), method=qsim.GradientDescent(step=0.1), workers=2
    )
    with pytest.raises(ValueError, match="targets, which have no accuracy"):
        trace.axis("train_accuracy")
    assert "train_accuracy" not in trace.to_frame()


def test_traces_that_were_saved_make_the_same_picture(traces: list[qsim.Trace], tmp_path: Path) -> None:
    saved = [qsim.Trace.load(trace.save(tmp_path / f"{place}.npz")) for place, trace in enumerate(traces)]
    one, two = qsim.plot(traces), qsim.plot(saved)
    assert [line.get_label() for line in one.lines] == [line.get_label() for line in two.lines]


def test_notebooks_show_tables_and_no_markup_of_others(traces: list[qsim.Trace]) -> None:
    data = qsim.Dataset.from_arrays(np.eye(2), [0, 1], name="<script>")
    for thing, words in (
        (traces[0], "suboptimality"),
        (replace(RUN, data=data), "evaluate_every"),
        (data, "non-zeros"),
    ):
        html = thing._repr_html_()
        assert words in html
        assert html.startswith("<table>")
        assert "<script>" not in html


def test_notebooks_show_a_figure_without_pyplot(traces: list[qsim.Trace]) -> None:
    """Jupyter asks an object for it, and knows how to draw a figure of Matplotlib's only once pyplot is imported."""
    figure = qsim.plot(traces).figure
    assert figure._repr_png_().startswith(b"\x89PNG")

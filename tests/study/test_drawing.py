"""How figures look is ours: no matplotlibrc leaks in, odd names are shown as they are, and pyplot keeps nothing."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import qsim
from qsim.plotting import STYLE
from qsim.study import Band, figure_grid, legend_below, output
from qsim.study.figures import draw_band

ODD = {"text.usetex": True, "font.family": "serif", "font.size": 21.0, "axes.facecolor": "red", "savefig.dpi": 7}
NAMES = ["_mine(3)", "$x_{$", "$x_{", "a$b", "$x_1$", "5$ and 6$", r"\$", "caf\udce9"]


def picture(figure: Any) -> bytes:
    whole = BytesIO()
    figure.savefig(whole, format="png")
    return whole.getvalue()


def trace() -> qsim.Trace:
    columns = {name: np.arange(4.0) for name in ("round", "loss", "cumulative_bits_up")}
    return qsim.Trace(columns, np.zeros(1), {})


def test_a_users_matplotlibrc_does_not_leak_in(tmp_path: Any) -> None:
    """Neither when a figure is made nor when it is saved; and the user's settings are the user's again."""
    with figure_grid(height=2.0) as (figure, axes):
        axes[0, 0].plot([1, 2])
    output.save(figure, tmp_path / "plain.pdf")
    plain, drawn = picture(figure), picture(trace().plot().figure)
    with mpl.rc_context(ODD):
        with figure_grid(height=2.0) as (figure, axes):
            axes[0, 0].plot([1, 2])
        output.save(figure, tmp_path / "odd.pdf")
        assert picture(figure) == plain
        assert picture(trace().plot().figure) == drawn
        assert mpl.rcParams["font.size"] == 21
        trace().plot()
        assert mpl.rcParams["text.usetex"] is True
    assert (tmp_path / "odd.pdf").read_bytes() == (tmp_path / "plain.pdf").read_bytes()


def test_names_are_shown_as_they_are() -> None:
    with figure_grid(height=2.0) as (figure, axes):
        for place, name in enumerate(NAMES):
            at = np.arange(3.0)
            draw_band(axes[0, 0], Band(at, at, at, at), place, name)
        legend_below(figure, axes.flat, NAMES)
    figure.canvas.draw()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [" _mine(3)", r"\$x_{\$", "$x_{", "a$b", "$x_1$", "5$ and 6$", r"\$", r"caf\udce9"]


def test_pyplot_keeps_no_figure() -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    for _ in range(25):  # pyplot warns of more than 20
        ax = trace().plot(x="bits_up", label="mine")
    assert plt.get_fignums() == before
    assert ax.get_ylabel() == "training loss"
    assert STYLE["font.size"] == ax.xaxis.label.get_size()
    own = plt.figure().add_subplot()
    assert trace().plot(ax=own) is own
    plt.close(own.figure)


def test_unknown_axes_are_still_refused() -> None:
    with pytest.raises(ValueError, match="a trace has no 'los'; did you mean 'loss'"):
        trace().plot(y="los")

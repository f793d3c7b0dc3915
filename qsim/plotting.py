"""The style of all figures, whatever the user's matplotlibrc says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.linewidth": 0.3,
    "grid.alpha": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # text stays text, in an embedded TrueType font
    "svg.fonttype": "none",
    "svg.hashsalt": "qsim",
}
_USERS = (
    "backend",
    "date.epoch",
    "docstring",
    "interactive",
    "keymap",
    "savefig.directory",
    "timezone",
    "tk.",
    "toolbar",
    "webagg",
)
"""Prefixes of the names of settings that do not change how a figure looks."""


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in our style, on top of Matplotlib's defaults."""
    import matplotlib as mpl

    defaults = {name: value for name, value in mpl.rcParamsDefault.items() if not name.startswith(_USERS)}
    with mpl.rc_context({**defaults, **STYLE}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make a figure, its size in inches, in our style whenever it is drawn; pyplot does not keep it."""
    with styled():
        figure: Figure = _styled_figure()(figsize=(width, height), layout="constrained")
    return figure


@cache
def _styled_figure() -> Any:
    from io import BytesIO

    from matplotlib.figure import Figure

    class StyledFigure(Figure):
        """Ticks are made, and fonts found, when a figure is drawn. Notebooks show it, whether pyplot is used or not."""

        def draw(self, renderer: Any) -> None:
            with styled():
                super().draw(renderer)

        def savefig(self, *arguments: Any, **options: Any) -> None:
            with styled():
                super().savefig(*arguments, **options)

        def _repr_png_(self) -> bytes:
            self.savefig(file := BytesIO(), format="png", dpi=120)
            return file.getvalue()

    return StyledFigure


def legend_text(name: str) -> str:
    r"""Return a name as Matplotlib shows it as it is.

    One that begins with _ would have no entry in a legend, and what looks like maths and is none would be an error, as
    would the bytes of a file name that are no UTF-8.

    >>> legend_text("_mine"), legend_text("$x_{$ and $y$"), legend_text("$x_1$")
    (' _mine', '\\$x_{\\$ and \\$y\\$', '$x_1$')
    """
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser

    name = name.encode("utf-8", "backslashreplace").decode()
    if is_math_text(name):
        try:
            MathTextParser("path").parse(name)
        except ValueError:
            name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name

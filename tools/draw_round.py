"""Draw one round as it is run: which module calls which, in order. Writes docs/round.svg and prints how many calls.

    python tools/draw_round.py

A round of quantized SGD is run on the engine `Serial` and every Python call inside qsim is noted. An arrow is the first
call from one module to a function of another; what it calls inside its own module is left out, and so is what is called
again later. Kernels are compiled and make no Python calls: they are reached from compressors, codecs and objectives.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import qsim
from qsim.engines import Serial
from qsim.plotting import new_figure, styled
from qsim.simulation.training import Training

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "qsim"
LANES = [  # from the loop to the kernels' callers
    "simulation.training", "methods", "simulation.exchange", "clients", "downlinks", "simulation.streams", "engines",
    "workers", "block", "objectives", "channel", "compressors", "codecs", "simulation.collectives", "weights", "steps",
    "simulation.recorder",
]  # fmt: skip


@dataclass(frozen=True)
class Call:
    """A call from one module to a function of another."""

    source: str
    target: str
    function: str


def module(frame: FrameType | None) -> str | None:
    """Return the module of a frame below qsim, without the package's name; None outside of it."""
    if frame is None:
        return None
    path = Path(frame.f_code.co_filename)
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts) if path.is_relative_to(PACKAGE) else None


def lane(name: str) -> str:
    """Return the lane of a module: itself in `simulation`, else its package."""
    return name if name.startswith("simulation.") else name.split(".")[0]


def label(frame: FrameType) -> str:
    """Return how a call is written: the function, in a class that has several kinds its name too."""
    name = frame.f_code.co_name
    owner = type(frame.f_locals["self"]).__name__ if "self" in frame.f_locals else ""
    if name == "__call__":
        return f"{owner}(...)"
    if name == "<genexpr>":
        return "next reply"
    return f"{owner}.{'compress' if name == 'checked' else name}"  # `checked` is around a compressor's `compress`


def one_round() -> list[tuple[str | None, str, str]]:
    """Return all calls of a round that has a warm-up before it: the module of the caller, that of the callee, what."""
    calls: list[tuple[str | None, str, str]] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        target = module(frame) if event == "call" else None
        if target is not None:
            caller = frame.f_back
            while caller is not None and module(caller) is None:  # through a library
                caller = caller.f_back
            calls.append((module(caller), target, label(frame)))

    run = qsim.Run(
        "spark_sample", qsim.LogisticRegression(l2=0.1), qsim.SGD(step=0.1, batch=4), qsim.QSGD(levels=4), workers=2
    )
    with Training.opened(run, Serial()) as training:
        training.advance()
        training._planned = None  # the round as its parts define it, not as one program
        sys.setprofile(note)
        training.advance()
        sys.setprofile(None)
    return calls


def arrows(calls: list[tuple[str | None, str, str]]) -> list[Call]:
    """Return the first call of each function that is called from another lane."""
    seen: dict[Call, None] = {}
    for source, target, function in calls:
        if (
            source is None
            or lane(source) == lane(target)
            or "._" in function
            or function.endswith((".workers", ".key"))
        ):
            continue
        if {lane(source), lane(target)} <= set(LANES):
            seen.setdefault(Call(lane(source), lane(target), function))
    return list(seen)


def draw(calls: list[Call], path: Path) -> None:
    """Draw lanes from left to right, and calls from top to bottom."""
    places = {name: place for place, name in enumerate(LANES)}
    with styled():
        figure = new_figure(11, 0.19 * len(calls) + 1.2)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.9))
        axes.set_xlim(-0.7, len(LANES) - 0.3)
        axes.set_ylim(len(calls) + 0.5, -1)
        axes.axis("off")
        for name, place in places.items():
            axes.axvline(place, color="0.85", lw=1, zorder=0)
            axes.text(place, -1.2, name.replace("simulation.", "simulation.\n"), ha="center", va="bottom", fontsize=6.5)
        for row, call in enumerate(calls):
            start, end = places[call.source], places[call.target]
            arrow = {"arrowstyle": "->", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (end, row), (start, row), arrowprops=arrow)
            axes.text(
                (start + end) / 2, row - 0.08, call.function, ha="center", va="bottom", fontsize=6,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.8},
            )  # fmt: skip
        figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Run a round, draw it, and print its size."""
    calls = one_round()
    files = {target for _, target, _ in calls}
    moves = sum(source != target for source, target, _ in calls)
    found = arrows(calls)
    draw(found, ROOT / "docs" / "round.svg")
    print(f"{len(calls)} Python calls in {len(files)} files, {moves} moves between files; {len(found)} arrows")
    return 0


if __name__ == "__main__":
    sys.exit(main())

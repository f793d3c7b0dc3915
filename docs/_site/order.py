"""How the gallery looks: the order of its examples, and qsim's style for what they draw."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

GALLERY = Path(__file__).parents[2] / "examples" / "gallery"


class Order:
    """Sort examples as the gallery's header lists them."""

    def __init__(self, source: str) -> None:
        names = re.findall(r"`(plot_\w+\.py)`", (GALLERY / "GALLERY_HEADER.rst").read_text(encoding="utf-8"))
        self.places = {name: place for place, name in enumerate(names)}

    def __call__(self, name: str) -> int:
        return self.places.get(name, len(self.places))


def our_style(gallery: dict[str, Any], name: str) -> None:
    """Have an example drawn in qsim's style, whatever the one before it set."""
    import matplotlib as mpl

    from qsim.plotting import STYLE

    mpl.rcdefaults()
    mpl.rcParams.update(STYLE | {"figure.figsize": (5.2, 3.2), "figure.constrained_layout.use": True})
    mpl.rcParams["savefig.dpi"] = 200

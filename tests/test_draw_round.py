"""The picture of a round in docs/architecture.md shows the round as it runs today."""

from __future__ import annotations

import re
import sys

import pytest

from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
draw_round = pytest.importorskip("draw_round", reason="needs the checkout's tools")


def test_the_picture_has_the_calls_of_a_round() -> None:
    """The whole round through the exchange, which planned rounds only shorten."""
    called = {call.function for call in draw_round.arrows(draw_round.one_round())}
    assert {"SGD.round", "WireExchange(...)", "QSGD.compress", "Recorder.record"} <= called
    drawn = set(re.findall(r"<text[^>]*>([^<]*)</text>", (ROOT / "docs" / "round.svg").read_text(encoding="utf-8")))
    assert called <= drawn

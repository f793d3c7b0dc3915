"""Timelines: where the bars of a round lie, by hand."""

from __future__ import annotations

import numpy as np

from qsim.network.timeline import draw


def test_in_a_timeline_an_exchange_begins_where_the_one_before_was_over() -> None:
    """Two workers and two exchanges: the bars of the downlink reach from the end of the last exchange to the work."""
    schedule = {
        "round": np.ones(4), "exchange": np.array([3, 3, 4, 4]), "worker": np.array([0, 1, 0, 1]),
        "began": np.array([1.0, 1.0, 7.0, 7.0]), "computed": np.array([2.0, 3.0, 8.0, 8.0]),
        "encoded": np.array([2.5, 3.5, 8.5, 8.5]), "came": np.array([4.0, 5.0, 9.0, 9.0]),
        "end": np.array([6.0, 6.0, 9.0, 9.0]),
    }  # fmt: skip
    ax = draw(schedule, 1)
    (downlink,) = [container for container in ax.containers if container.get_label() == "downlink"]
    assert [(bar.get_x(), bar.get_width()) for bar in downlink] == [(0, 1), (0, 1), (6, 1), (6, 1)]

"""What tests of planned rounds look at."""

from __future__ import annotations

import pytest

from qsim.simulation.planned import PlannedRounds


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rounds at a time were planned ones."""
    done: list[int] = []
    run = PlannedRounds.run

    def counted(self, *arguments):
        found = run(self, *arguments)
        done.append(0 if found is None else len(found))
        return found

    monkeypatch.setattr(PlannedRounds, "run", counted)
    return done

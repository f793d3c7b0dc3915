"""Settings of the test-suite."""

import builtins
import os
from collections.abc import Iterable
from math import fsum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings

from helpers.paths import ROOT
from qsim.storage import user_cache

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.pop("QSIM_QUIET", None)  # some tests read what is said

settings.register_profile("qsim", deadline=None, print_blob=True, max_examples=60)
settings.load_profile("qsim")


def fresh_cache(folder: Path) -> Path:
    """Make a cache folder with the compiled kernels and solved optima of the user's, and nothing else."""
    for name in ("kernels", "optima"):
        (_SHARED / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(_SHARED / name)
    return folder


_SHARED = user_cache().resolve()
_TEMPORARY = TemporaryDirectory(prefix="qsim-tests-")
os.environ["QSIM_CACHE_DIR"] = str(fresh_cache(Path(_TEMPORARY.name)))  # tests change qsim: the user's cells stay clean


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a cache folder without cells or logs."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("QSIM_CACHE_DIR", str(fresh_cache(folder)))
    return folder


@pytest.fixture
def through_the_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every round go through the exchange, where tests look on, and none be planned."""
    from qsim.simulation.planned import PlannedRounds

    monkeypatch.setattr(PlannedRounds, "of", lambda *arguments: None)


@pytest.fixture
def compensated_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Python's `sum` make up for the rounding of floats, as it does from Python 3.12 on."""
    usual = builtins.sum

    def compensated(numbers: Iterable[Any], /, start: Any = 0) -> Any:
        kept = list(numbers)
        floats = {type(x) for x in kept} == {float} and type(start) in (int, float)
        return fsum([start, *kept]) if floats else usual(kept, start)

    monkeypatch.setattr(builtins, "sum", compensated)


@pytest.fixture
def raw() -> Path:
    folder = Path(os.environ.get("QSIM_RAW_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "adult" / "adult.data.xz").is_file():
        pytest.skip(f"no raw data in {folder}: set QSIM_RAW_DATA to a folder with adult/ and spark/")
    return folder

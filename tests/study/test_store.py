"""The cell store: what a run is known by, and files that are whole, torn, stale, claimed or without room."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import qsim
from helpers.paths import process_environment
from helpers.studies import local
from helpers.traces import same
from qsim import identity
from qsim.identity import UnknowableError, identify, sources_digest
from qsim.object_loader import load_file
from qsim.study.store import Store, StoreError

RUN = qsim.Run(
    qsim.datasets.load("spark_sample"),
    objective=qsim.LogisticRegression(l2=0.1),
    method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
    compressor=qsim.QSGD(2),
    workers=4,
    rounds=3,
)

MINE = """
import numpy as np
import qsim
import helper

@qsim.option
class Rounded(qsim.compressors.Compressor):
    digits: int
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(helper.rounded(v, self.digits))

    def contraction(self, n):
        return 0.5

@qsim.option
class Tabled(Rounded):
    table: np.ndarray = None
"""
HELPER = "import numpy as np\ndef rounded(v, digits):\n    return np.round(v, digits)\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's two files."""
    (tmp_path / "user").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "user")
    (tmp_path / "user" / "helper.py").write_text(HELPER)
    path = tmp_path / "user" / "mine.py"
    path.write_text(MINE)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rounds": 4},
        {"workers": 5},
        {"compressor": qsim.QSGD(3)},
        {"compressor": qsim.QSGD(2, "max")},
        {"compressor": qsim.ErrorFeedback(qsim.Scaled(qsim.QSGD(2)))},
        {"codec": qsim.codecs.RANS()},
        {"objective": qsim.LogisticRegression(l2=0.1000001)},
        {"method": qsim.GradientDescent(step=qsim.steps.Constant(0.2))},
        {"partition": qsim.datasets.Contiguous()},
        {"weighting": "workers"},
        {"evaluate_every": 2},
        {"optimum": False},
        {"until": qsim.stopping.GradientNorm(1e-3)},
        {"data": qsim.datasets.load("adult")},
        {"test": qsim.datasets.load("spark_sample")},
    ],
    ids=lambda change: ",".join(change),
)
def test_a_key_depends_on_every_parameter(change: dict[str, object]) -> None:
    assert identify(replace(RUN, **change)).key != identify(RUN).key


def test_a_key_is_the_same_in_another_process() -> None:
    program = f"import qsim; from qsim.identity import identify;print(identify(eval({repr(RUN)!r})).key)"
    environment = process_environment(PYTHONHASHSEED="7")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [identify(RUN).key]


def test_data_without_a_source_are_told_by_their_content() -> None:
    def run(value: float) -> qsim.Run:
        data = qsim.Dataset([0, 2, 3], [0, 2, 1], [0.5, value, 1.0], [1, 0], features=3)
        return replace(RUN, data=data, workers=2)

    assert identify(run(2.0)).key == identify(run(2.0)).key != identify(run(2.5)).key


def test_arrays_that_print_alike_are_told_apart(mine: Path) -> None:
    module = load_file(mine, "mine_tabled")
    table = np.zeros(5000)
    other = table.copy()
    other[2500] = 1.0
    runs = [replace(RUN, compressor=module.Tabled(2, array)) for array in (table, other, table.copy())]
    assert repr(runs[0]) == repr(runs[1])
    keys = [identify(run).key for run in runs]
    assert keys[0] == keys[2] != keys[1]


def test_an_edit_of_a_room_makes_all_keys_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kernels/levels.py", "study/figures.py", "testing/report.py", "verify.py", "simulation.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    before = sources_digest.__wrapped__(tmp_path)
    for name in ("study/figures.py", "testing/report.py", "verify.py"):
        (tmp_path / name).write_text("a = 2\n")
    assert sources_digest.__wrapped__(tmp_path) == before
    key = identify(RUN).key
    for name in ("kernels/levels.py", "simulation.py"):
        (tmp_path / name).write_text("a = 2\n")
        after = sources_digest.__wrapped__(tmp_path)
        assert after != before
        before = after
    monkeypatch.setattr(identity, "sources_digest", lambda: before)
    assert identify(RUN).key != key


@pytest.mark.parametrize("name", ["numpy", "numba", "scipy", "python", "machine", "processor", "c library"])
def test_another_version_or_machine_makes_all_keys_new(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key, here = identify(RUN).key, dict(identity.place())
    monkeypatch.setattr(identity, "place", lambda: here | {name: "another"})
    assert identify(RUN).key != key


def test_an_edit_of_a_users_file_or_what_it_imports_changes_its_keys_alone(mine: Path) -> None:
    module = load_file(mine, "mine_edited")
    run = replace(RUN, compressor=qsim.ErrorFeedback(module.Rounded(2)))
    keys, shipped = {identify(run).key}, identify(RUN).key
    assert identify(run).modules.keys() == {str(mine), str(mine.parent / "helper.py")}
    (mine.parent / "unrelated.py").write_text("b = 1\n")
    assert {identify(run).key} == keys
    for path in (mine, mine.parent / "helper.py"):
        path.write_text(path.read_text() + "# edited\n")
        keys.add(identify(run).key)
    assert len(keys) == 3
    assert identify(RUN).key == shipped


def test_a_users_file_may_move(mine: Path, tmp_path: Path) -> None:
    first = identify(replace(RUN, compressor=load_file(mine, "mine_here").Rounded(2)))
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    moved.write_bytes(mine.read_bytes())
    assert identify(replace(RUN, compressor=load_file(moved, "mine_there").Rounded(2))).key == first.key


def test_relative_imports_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "user_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text(HELPER)
    (package / "mine.py").write_text(MINE.replace("import helper", "from . import helper"))
    monkeypatch.syspath_prepend(tmp_path)
    from user_package.mine import Rounded  # type: ignore[import-not-found]

    key = identify(replace(RUN, compressor=Rounded(2))).key
    (package / "helper.py").write_text(HELPER + "# edited\n")
    assert identify(replace(RUN, compressor=Rounded(2))).key != key


@qsim.option
class Holds(qsim.compressors.Compressor):
    thing: object
    emits = qsim.batch.Floats

    def quantize(self, v, key):
        return qsim.batch.Floats.single(v)


def itself() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("compressor", "words"),
    [(local(2), "inside a function"), (Holds(x for x in "ab"), "cannot be told"), (Holds(itself()), "itself")],
)
def test_what_cannot_be_told_is_refused(compressor: qsim.compressors.Compressor, words: str) -> None:
    with pytest.raises(UnknowableError, match=words):
        identify(replace(RUN, compressor=compressor))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, 1.0),
        (True, 1),
        ("1", 1),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"a": 2}),
        ({1, 2}, {1, 3}),
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.zeros((2, 1))),
        (np.array([None]), np.array([1], object)),
        (lambda x: x + 1, lambda x: x - 1),
        (np.tanh, np.sin),
        (len, sum),
        (int, float),
        (Path("a"), Path("b")),
        (Holds(1), Holds(2)),
        (date(2020, 1, 1), date(2020, 1, 2)),
        (OrderedDict(a=1), OrderedDict(a=2)),
    ],
)
def test_different_contents_have_different_keys(first: object, second: object) -> None:
    keys = [identify(replace(RUN, compressor=Holds(thing))).key for thing in (first, second, first)]
    assert keys[0] == keys[2] != keys[1]


def test_a_stored_trace_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    store, trace = Store(tmp_path), qsim.simulate(RUN)
    assert store.load(identify(RUN).key) is None
    path = store.save(identify(RUN), trace)
    assert path == store.path(RUN)
    found = store.load(identify(RUN).key)
    assert found is not None
    assert same(found, trace)
    assert found.provenance == trace.provenance
    assert same(qsim.Trace.load(path), trace)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_another_run(path: Path) -> None:
    other = replace(RUN, seed=5)
    Store(path.parents[1]).save(identify(other), qsim.simulate(other)).replace(path)


def not_a_cell(path: Path) -> None:
    qsim.simulate(RUN).save(path)


@pytest.mark.parametrize("harm", [torn, empty, of_another_run, not_a_cell])
def test_a_cell_that_cannot_be_read_is_dropped_with_a_warning(harm: Callable[[Path], None], tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.save(identify(RUN), qsim.simulate(RUN))
    harm(path)
    with pytest.warns(UserWarning, match="computed again"):
        assert store.load(identify(RUN).key) is None
    assert not path.exists()


def test_a_cell_that_the_system_does_not_let_be_read_stays(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, found = Store(), identify(RUN)
    path = store.save(found, qsim.simulate(RUN))
    whole = path.read_bytes()

    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refused)
        with pytest.warns(UserWarning, match="Too many open files"):
            assert store.load(found.key) is None
    assert path.read_bytes() == whole


@pytest.mark.filterwarnings("ignore:a stored cell can't be read")
def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    """Wherever a bit of the file flips: the cell is dropped, or the trace is the same (names and dates of members)."""
    store, trace = Store(tmp_path), qsim.simulate(RUN)
    path = store.save(identify(RUN), trace)
    blob = path.read_bytes()
    dropped = 0
    for place in range(0, len(blob), 11):
        harmed = bytearray(blob)
        harmed[place] ^= 1 << place % 8
        path.write_bytes(harmed)
        found = store.load(identify(RUN).key)
        dropped += found is None
        assert found is None or (same(found, trace) and found.provenance == trace.provenance)
    assert dropped > 100


def test_a_full_disk_says_where_and_how_much_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    store, trace = Store(tmp_path / "cells"), qsim.simulate(RUN)

    def full(path: Path, blob: bytes) -> int:
        with path.open("wb") as file:
            file.write(bytes(blob)[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StoreError, match=r"No space left .* bytes can't be stored in .*cells \([\d,]+ bytes are"):
            store.save(identify(RUN), trace)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert same(qsim.Trace.load(store.save(identify(RUN), trace)), trace)


CLAIM = """
import sys, time
from pathlib import Path
from qsim.study.store import Store
with Store(Path(sys.argv[1])).claim(sys.argv[2]) as mine:
    print(mine, flush=True)
    if mine:
        time.sleep(60)
"""


def test_a_claim_is_kept_from_others_and_let_go_by_death(tmp_path: Path) -> None:
    def claim(key: str) -> subprocess.Popen[str]:
        environment = process_environment()
        command = [sys.executable, "-c", CLAIM, str(tmp_path), key]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def said(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    first, key = claim("ab" * 32), "ab" * 32
    try:
        assert said(first) == "True"
        with Store(tmp_path).claim(key) as mine:
            assert not mine
        with Store(tmp_path).claim("ac" * 32) as mine:
            assert mine
        first.send_signal(signal.SIGKILL)
        first.wait()
        with Store(tmp_path).claim(key) as mine:
            assert mine
            second = claim(key)
            assert said(second) == "False"
            second.communicate()
    finally:
        first.kill()
        first.communicate()


def test_clean_removes_what_is_stale(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, trace = Store(tmp_path / "cells"), qsim.simulate(RUN)
    here = store.save(identify(RUN), trace)
    module = load_file(mine, "mine_stale")
    users = store.save(identify(replace(RUN, compressor=module.Rounded(2))), trace)
    with monkeypatch.context() as patch:
        patch.setattr(identity, "sources_digest", lambda: "of another version")
        old = store.save(identify(RUN), trace)
    broken = store.folder / "ab" / ("ab" * 32 + ".npz")
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b"half")
    left, fresh = (broken.with_name(f".{name}.npz") for name in ("left", "fresh"))
    left.write_bytes(b"x")
    fresh.write_bytes(b"x")
    os.utime(left, (time.time() - 7200,) * 2)
    assert set(store.stale()) == {old, broken}
    removed = store.clean()
    assert (removed.cells, removed.leftovers) == (2, 1)
    assert removed.bytes > 1000
    assert here.exists()
    assert users.exists()
    assert fresh.exists()
    mine.write_text(MINE + "# edited\n")
    assert store.clean().cells == 1
    assert not users.exists()
    assert store.clean(everything=True).cells == 1
    assert not store.cells()

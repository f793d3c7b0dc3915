"""Adding a part: a toy compressor, codec and method in at most five files each, and all checks take them in.

Each is added to a copy of the checkout, where the tests of the whole kind then run over it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.paths import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / "CITATION.cff").exists(), reason="needs the checkout")
PARTS = ("qsim", "studies", "tests", "docs", "tools", "pyproject.toml", "CITATION.cff", "README.md", "CHANGELOG.md")

COMPRESSOR = '''"""A toy: each coordinate is kept by a fair coin."""

from __future__ import annotations

from typing import Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qsim.batch import Floats
from qsim.compressors.base import Compressor
from qsim.keys import Key
from qsim.options import option


@final
@option
class Coin(Compressor):
    """Keeps each coordinate with probability 1/2, doubled: omega = 1.

    References
    ----------
    .. [1] Konecny and Richtarik, "Randomized distributed mean estimation", 2018.

    Examples
    --------
    >>> import qsim
    >>> qsim.Coin().variance(10)
    1.0
    """

    emits = Floats

    def quantize(self, v: NDArray[np.float32], key: Key) -> Floats:
        return Floats.single(np.where(key.generator().random(v.size) < 0.5, 2 * v, 0))

    def variance(self, n: int) -> float:
        return 1.0

    def expected_nonzeros(self, v: ArrayLike) -> float:
        return np.count_nonzero(v) / 2

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)
'''

METHOD = '''"""A toy: gradient descent at half the step."""

from __future__ import annotations

from typing import Self, final

from qsim.batch import Arrays, Memory, Vectors
from qsim.block import Block
from qsim.methods.base import Exchange, Method, Task
from qsim.objectives import Objective
from qsim.options import option
from qsim.weights import Weights


@final
@option
class Halved(Method):
    """w <- (1 - a l2) w - sum_i weight_i C(a g_i), a half the step.

    Parameters
    ----------
    step : float
        Twice the step that is taken.

    References
    ----------
    .. [1] Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Examples
    --------
    >>> import qsim
    >>> qsim.Halved(step=1.0)
    qsim.Halved(step=1.0)
    """

    step: float

    def round(self, w: Weights, state: Arrays, exchange: Exchange) -> None:
        total = exchange("update", w).vector
        exchange.objective.apply_l2_step(w, self.step / 2)
        w.subtract(total)

    def work(self, task: Task, objective: Objective, block: Block, memory: Memory) -> Vectors:
        return objective.update(block, block.all_rows(), task.weights, self.step / 2)

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(0.5),)
'''

CODEC = '''"""A toy: the bytes of Varint, turned over."""

from __future__ import annotations

from typing import ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Message, Packets
from qsim.codecs.base import Codec, read_header
from qsim.codecs.varint import Varint
from qsim.options import option


@final
@option
class Turned(Codec):
    """The bits of `Varint`, ones for zeros.

    Examples
    --------
    >>> import qsim
    >>> qsim.codecs.Turned().encode(qsim.batch.Levels.single([1], scale=1.0, s=1))[0].hex()
    'ffff7fc0ff'
    """

    carries: ClassVar[tuple[type[Message], ...]] = Varint.carries

    @classmethod
    def examples(cls) -> tuple[Self, ...]:
        return (cls(),)

    @property
    def number(self) -> int:
        return 254

    def encode(self, message: Message) -> Packets:
        self.require(message)
        packets = Varint().encode(message)
        return Packets(~packets.data, packets.offsets)

    def decode(self, packets: Packets, header: bytes) -> Message:
        read_header(header, self)
        theirs = header[:1] + bytes([Varint().number]) + header[2:]
        return Varint().decode(Packets(~packets.data, packets.offsets), theirs)

    def size(self, message: Message) -> NDArray[np.int64]:
        return Varint().size(message)
'''


@dataclass(frozen=True)
class Toy:
    """A part to add: its file, what is added to other files (before a line, or at the end), and the tests to run.

    forgotten: a file whose lines with the part's name are left out at last, which the second of the tests notices.
    """

    name: str
    path: str
    source: str
    edits: dict[str, list[tuple[str, str]]]
    tests: list[str]
    forgotten: str = "qsim/__init__.pyi"


TOYS = [
    Toy(
        "Coin",
        "qsim/compressors/coin.py",
        COMPRESSOR,
        {
            "qsim/compressors/__init__.py": [
                ("from qsim.compressors.dither import", "from qsim.compressors.coin import Coin\n"),
                ('    "CompK",', '    "Coin",\n'),
            ],
            "qsim/__init__.pyi": [("from .compressors import Compose", "from .compressors import Coin as Coin\n")],
            "docs/theory.md": [("", "\n`Coin` has omega = 1.\n")],
        },
        [
            "tests/test_package.py::test_public_names_import",
            "tests/test_package.py::test_the_top_level_follows_its_rule",
            "tests/test_package.py::test_public_docstrings",
            "tests/test_package.py::test_sources_can_be_cited",
            "tests/test_theory_page.py::test_every_part_is_on_the_page",
            "tests/test_verify.py::test_every_shipped_compressor_is_an_example",
            "tests/testing/test_check_compressor.py::test_shipped_compressors_pass[qsim.Coin()]",
            "tests/test_docs.py::test_docstring_examples[qsim.compressors.coin]",
        ],
    ),
    Toy(
        "Halved",
        "qsim/methods/halved.py",
        METHOD,
        {
            "qsim/methods/__init__.py": [
                ("from qsim.methods.local import", "from qsim.methods.halved import Halved\n"),
                ('    "HeavyBall",', '    "Halved",\n'),
            ],
            "qsim/__init__.pyi": [("from .methods import LocalSGD", "from .methods import Halved as Halved\n")],
            "docs/methods.md": [("", "\n`Halved` is a toy.\n")],
        },
        [
            "tests/test_package.py::test_public_names_import",
            "tests/test_package.py::test_the_top_level_follows_its_rule",
            "tests/test_package.py::test_sources_can_be_cited",
            "tests/testing/test_check_method.py::test_what_is_right_passes[qsim.Halved(step=0.5)]",
            "tests/test_docs.py::test_docstring_examples[qsim.methods.halved]",
        ],
    ),
    Toy(
        "Turned",
        "qsim/codecs/turned.py",
        CODEC,
        {
            "qsim/codecs/__init__.py": [
                ("from qsim.codecs.varint import", "from qsim.codecs.turned import Turned\n"),
                ('    "Varint",', '    "Turned",\n'),
            ],
            "docs/wire-format.md": [("|\n| kind |", ", 254 `Turned` ")],
        },
        [
            "tests/test_package.py::test_public_names_import",
            "tests/codecs/test_shipped_codecs.py::test_numbers_are_those_on_the_page_of_the_format",
            "tests/test_package.py::test_public_docstrings",
            "tests/codecs/test_shipped_codecs.py",
            "tests/test_docs.py::test_docstring_examples[qsim.codecs.turned]",
        ],
        "docs/wire-format.md",
    ),
]


@pytest.mark.parametrize("toy", TOYS, ids=lambda toy: toy.name)
def test_a_toy_is_added_in_five_files(toy: Toy, tmp_path: Path) -> None:
    for name in PARTS:
        ignore = shutil.ignore_patterns("__pycache__")
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / toy.path).write_text(toy.source)
    for name, edits in toy.edits.items():
        path = tmp_path / name
        for before, text in edits:
            old = path.read_text()
            new = old.replace(before, text + before, 1) if before else old + text
            assert new != old, f"{name} has no line {before!r}"
            path.write_text(new)
    assert len(toy.edits) + 1 <= 5

    def run(tests: list[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *tests]
        settings = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)

    done = run(toy.tests)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    forgotten = tmp_path / toy.forgotten  # what must be edited is told by a test
    forgotten.write_text("".join(line for line in forgotten.read_text().splitlines(True) if toy.name not in line))
    assert run(toy.tests[1:2]).returncode == 1

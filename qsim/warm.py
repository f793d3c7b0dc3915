"""The command `qsim warm`: compile kernels now, and not when a run first needs them."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from tqdm import tqdm

import qsim
from qsim import codecs, downlinks
from qsim.codecs import Codec
from qsim.commands import command
from qsim.compressors import QSGD, Compressor, Identity, Sign, TopK
from qsim.datasets import HashedText, load_libsvm, save_clicks
from qsim.downlinks import Downlink
from qsim.kernels._jit import announce, cache_folder, tell_of_compiling
from qsim.keys import Key
from qsim.methods import EF21, SGD, GradientDescent, Method, SignSGD
from qsim.network import Fastest, Network, ParameterServer, Ring
from qsim.objectives import LogisticRegression, Objective
from qsim.simulation import simulate
from qsim.testing.cases import ObjectiveUnderTest
from qsim.testing.shipped import shipped
from qsim.testing.training import MethodUnderTest

Work = tuple[str, Callable[[], object]]
"""Something that needs kernels: its name, and what does it."""

_HELP = """kinds of parts, all of them if none is named:
  everyday     logistic regression by SGD and gradient descent with QSGD and Top-k, on the built-in data
  compressors  every shipped compressor
  codecs       every shipped codec
  downlinks    every kind of downlink
  networks     a parameter server with stragglers, and a ring
  methods      every shipped method, with a compressor of every kind that it takes
  objectives   every shipped objective
  files        LIBSVM files and hashed text

What was compiled before is not compiled again, and what is compiled stays so if the command is stopped. Kernels are
compiled for types of arguments: a run may still meet one for types that nothing here has, and compiles it then.
"""


def _everyday() -> Iterator[Work]:
    for data in ("adult", "spark_sample"):
        for method in (SGD(0.5, batch=64), GradientDescent(0.5)):
            for compressor in (QSGD(4), TopK(0.05)):
                for rounds in (5, 200):  # long runs lay out their data first
                    options: dict[str, Any] = {"data": data, "workers": 32, "rounds": rounds, "optimum": True}
                    yield _run(LogisticRegression(1e-4), method, compressor, **options)


def _compressors() -> Iterator[Work]:
    for compressor in shipped(qsim.compressors, Compressor):
        follows = compressor.three_point(1) is not None
        for method in (EF21(0.01),) if follows else (SGD(0.01, batch=2), GradientDescent(0.01)):
            yield _run(LogisticRegression(0.01), method, compressor, workers=compressor.correlated or 4)


def _codecs() -> Iterator[Work]:
    levels: list[Codec] = [codecs.Varint(), codecs.FixedWidth(), codecs.Bitmap(), codecs.RANS(), codecs.GolombRice()]
    levels += [kind(code) for kind in (codecs.Elias, codecs.EliasDense) for code in ("gamma", "delta", "omega")]
    floats: list[Codec] = [codecs.SparseFloats(), codecs.SparseFloats("float64"), codecs.Dense(), codecs.Auto()]
    for compressor, able in ((QSGD(4), [*levels, codecs.Auto()]), (TopK(0.05), floats)):
        for codec in able:
            yield _run(LogisticRegression(0.01), SGD(0.01, batch=2), compressor, codec=codec)


def _downlinks() -> Iterator[Work]:
    kinds: list[Downlink] = [downlinks.DenseWeights("float64"), downlinks.SparseSum(), downlinks.SparsePull()]
    kinds += [downlinks.CompressedWeights(TopK(0.1)), downlinks.CompressedSum(TopK(0.1))]
    for downlink in kinds:
        yield _run(LogisticRegression(0.01), SGD(0.01, batch=2), QSGD(4), downlink=downlink)
    yield _run(LogisticRegression(0.01), SignSGD(0.01), Sign(), downlink=downlinks.SignSum())


def _networks() -> Iterator[Work]:
    ring, late = Network(Ring()), Network(ParameterServer(), rule=Fastest(2))
    yield _run(LogisticRegression(0.01), SGD(0.01, batch=2), QSGD(4), network=late)
    yield _run(LogisticRegression(0.01), SGD(0.01, batch=2), Identity(), network=ring, downlink=downlinks.Replicated())


def _methods() -> Iterator[Work]:
    for method in shipped(qsim.methods, Method):  # type: ignore[type-abstract]
        yield repr(method), partial(_with_its_compressors, method)


def _with_its_compressors(method: Method) -> None:
    subject = MethodUnderTest(method)
    for compressor in subject.compressors:
        simulate(subject.run(compressor), progress=False)


def _objectives() -> Iterator[Work]:
    for objective in shipped(qsim.objectives, Objective):  # type: ignore[type-abstract]
        for case in ObjectiveUnderTest(objective, Key(0)).whole_cases:
            for method in (SGD(0.01, batch=2), GradientDescent(0.01)):
                yield _run(objective, method, QSGD(4), data=case.data)


def _files() -> Iterator[Work]:
    yield "LIBSVM files", _read_libsvm
    yield "hashed text", _read_hashed_text


def _read_libsvm() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.libsvm"
        path.write_text("+1 1:0.5 3:1\n-1 2:1 3:-2e-3\n")
        load_libsvm(path)


def _read_hashed_text() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.tsv"
        save_clicks(path, 100)
        HashedText(path).load()


def _run(objective: Objective, method: Method, compressor: Compressor, **changes: Any) -> Work:
    """Return a short run."""
    options = {"data": "spark_sample", "workers": 4, "rounds": 3, "optimum": False, "progress": False} | changes
    run = partial(simulate, objective=objective, method=method, compressor=compressor, **options)
    return f"{compressor}, {method}", run


KINDS: dict[str, Callable[[], Iterator[Work]]] = {
    "everyday": _everyday,
    "compressors": _compressors,
    "codecs": _codecs,
    "downlinks": _downlinks,
    "networks": _networks,
    "methods": _methods,
    "objectives": _objectives,
    "files": _files,
}
"""The kinds of parts that can be compiled ahead, the most usual first."""


def parser() -> ArgumentParser:
    """Return what reads the command line."""
    parser = ArgumentParser(
        prog="qsim warm",
        description="Compile the kernels of shipped parts now, and not when a run first needs them.",
        epilog=_HELP,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; without: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Compile the kernels that some kinds of parts need; say how many there were, and where they are."""
    reader = parser()
    options = reader.parse_args(arguments)
    for kind in options.kinds:
        if kind not in KINDS:
            reader.error(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    folder, start = cache_folder(), perf_counter()
    before = _kernels(folder)
    tell_of_compiling(lambda begins: None)  # a bar says more
    try:
        work = [one for kind in options.kinds or KINDS for one in KINDS[kind]()]
        with tqdm(work, unit="part", disable=None) as bar:
            for name, do in bar:
                bar.set_postfix_str(f"{_kernels(folder) - before} kernels; {name[:40]}")
                do()
    finally:
        tell_of_compiling(lambda begins: announce() if begins else None)
    about = {"compiled": _kernels(folder) - before, "there before": before, "folder": str(folder)}
    seconds = round(perf_counter() - start, 1)
    if options.json:
        print(json.dumps(about | {"seconds": seconds}))
    else:
        print(f"{about['compiled']} kernels compiled in {seconds:.0f} s, {before} were there before, in {folder}")
    return 0


def _kernels(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.kernel"))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m qsim.calibrate`: what work takes on this machine, as numbers for `qsim.network.Machines`."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from time import perf_counter

import numpy as np

from qsim.block import Block
from qsim.channel import Channel
from qsim.codecs import Codec
from qsim.commands import command
from qsim.compressors import QSGD, Compressor
from qsim.datasets import DataError, Dataset, Shuffled, load
from qsim.keys import Key
from qsim.network import Machines
from qsim.object_loader import NotFoundError, evaluate
from qsim.objectives import LogisticRegression
from qsim.options import number
from qsim.weights import Replica

_MOST = 10**7  # non-zeros: more than a cache holds, as a run's
_WORKERS = 64  # in one call, as in a simulation, whose cost is then the work's
_TURNS = 5


def measure_machine(
    data: Dataset, compressor: Compressor, codec: Codec | None = None, seconds: float = 1.0
) -> Machines:
    """Measure what a gradient takes a non-zero, encoding an entry and decoding a byte, on one core of this machine.

    The gradients are those of logistic regression of up to 64 workers over the shuffled data (at most 10^7 non-zeros,
    so that what reading them from memory takes is in it); the compressor and the codec work on them. Each is measured
    for about a third of the seconds, in turns of which the fastest counts, and rounded to two digits. The numbers are
    for a run's repr: put them into `qsim.network.Machines`, and say where they are from.

    >>> import qsim
    >>> from qsim.calibrate import measure_machine
    >>> machines = measure_machine(qsim.datasets.load("spark_sample"), qsim.QSGD(levels=4), seconds=0.01)
    >>> machines.per_nonzero > 0 and machines.encode_per_entry > 0 and machines.decode_per_byte > 0
    True

    Raises ValueError for seconds that are not above 0.
    """
    seconds = number("seconds", seconds, above=0)
    data = data.take(np.arange(min(data.rows, 1 + _MOST * data.rows // data.nonzeros)))
    workers = min(data.rows, _WORKERS)
    block = Block(Shuffled().split(data, workers, Key(0)), 0, workers)
    objective, weights = LogisticRegression(l2=0.0), Replica(np.zeros(data.features, np.float32))
    channel, key = Channel(compressor, codec), Key(0)
    keys = (key if compressor.correlated is None else key.numbered).words(0, workers)
    vectors = objective.update(block, block.all_rows(), weights, 1.0)
    header, packets = channel.pack(vectors, keys)
    gradient = _fastest(lambda: objective.update(block, block.all_rows(), weights, 1.0), seconds / 3)
    encode = _fastest(lambda: channel.pack(vectors, keys), seconds / 3)
    decode = _fastest(lambda: channel.unpack(header, packets, keys), seconds / 3)
    return Machines(
        per_nonzero=_rounded(gradient / data.nonzeros),
        encode_per_entry=_rounded(encode / (vectors.value.size if compressor.keeps_sparse else workers * vectors.n)),
        decode_per_byte=_rounded(decode / max(packets.bits / 8, 1)),
    )


def _fastest(work: Callable[[], object], seconds: float) -> float:
    """Return how long some work takes, in the fastest of a few turns."""
    work()  # kernels are compiled
    start = perf_counter()
    work()
    times = max(1, int(seconds / _TURNS / max(perf_counter() - start, 1e-7)))
    turns = []
    for _ in range(_TURNS):
        start = perf_counter()
        for _ in range(times):
            work()
        turns.append((perf_counter() - start) / times)
    return min(turns)


def _rounded(value: float) -> float:
    return float(f"{value:.1e}")


def parser() -> ArgumentParser:
    """Return what reads the command line."""
    parser = ArgumentParser(
        prog="qsim calibrate",
        description="Measure what a gradient, encoding and decoding take on one core of this machine, and print them as"
        " qsim.network.Machines. Run it while nothing else runs.",
    )
    parser.add_argument(
        "compressor", nargs="?", metavar="MODULE:EXPRESSION", help="such as 'qsim:TopK(100)'; without: QSGD(4)"
    )
    parser.add_argument("--data", default="adult", help="what qsim.datasets.load takes; default: adult")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the machines of this computer, as the expression that makes them."""
    reader = parser()
    given = reader.parse_args(arguments)
    try:
        compressor = evaluate(given.compressor) if given.compressor else QSGD(4)
        data = load(given.data)
    except (NotFoundError, DataError) as error:
        reader.error(str(error))
    if not isinstance(compressor, Compressor):
        reader.error(f"{given.compressor} is not a compressor, found {compressor!r}")
    machines = measure_machine(data, compressor)
    print(json.dumps(asdict(machines), default=repr) if given.json else machines)
    return 0


if __name__ == "__main__":
    sys.exit(main())

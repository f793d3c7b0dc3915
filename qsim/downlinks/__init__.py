"""Downlinks: what the server sends to the workers, so that they know the weights of the next round."""

from qsim.downlinks.base import Broadcast, Downlink, Sent
from qsim.downlinks.pull import SparsePull
from qsim.downlinks.sums import CompressedSum, Replicated, SignSum, SparseSum
from qsim.downlinks.weights import CompressedWeights, DenseWeights

__all__ = [
    "Broadcast",
    "CompressedSum",
    "CompressedWeights",
    "DenseWeights",
    "Downlink",
    "Replicated",
    "Sent",
    "SignSum",
    "SparsePull",
    "SparseSum",
]


def __dir__() -> list[str]:
    return __all__

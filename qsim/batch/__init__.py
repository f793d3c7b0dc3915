"""Batches: vectors, the messages made of them, and the packets that carry messages. Pure data.

Everything is a batch of rows, one row per worker; a single vector is a batch of one. Rows lie one behind the other, row
b at `offsets[b]` to `offsets[b + 1]`. With `index` they are sparse (coordinates rising inside a row), without it dense.
"""

from qsim.batch.blocks import Blocks
from qsim.batch.messages import Floats, Levels, Message, SharedSupport, Signs
from qsim.batch.outliers import WithOutliers
from qsim.batch.packets import Packets
from qsim.batch.vectors import Arrays, Batch, Memory, Support, Vectors, dense_offsets, index_type, inner

__all__ = [
    "Arrays",
    "Batch",
    "Blocks",
    "Floats",
    "Levels",
    "Memory",
    "Message",
    "Packets",
    "SharedSupport",
    "Signs",
    "Support",
    "Vectors",
    "WithOutliers",
    "dense_offsets",
    "index_type",
    "inner",
]


def __dir__() -> list[str]:
    return __all__

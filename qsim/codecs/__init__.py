"""Codecs: messages to bytes and back. The format is in docs/wire-format.md."""

from qsim.codecs.auto import Auto
from qsim.codecs.base import Codec, DecodeError
from qsim.codecs.bitmap import Bitmap
from qsim.codecs.blockwise import Blockwise
from qsim.codecs.dense import Dense
from qsim.codecs.elias import Elias, GolombRice
from qsim.codecs.elias_dense import EliasDense
from qsim.codecs.fixed_width import FixedWidth
from qsim.codecs.outliers import Outliers
from qsim.codecs.rans import RANS
from qsim.codecs.sparse_floats import SparseFloats
from qsim.codecs.varint import Varint

__all__ = [
    "RANS",
    "Auto",
    "Bitmap",
    "Blockwise",
    "Codec",
    "DecodeError",
    "Dense",
    "Elias",
    "EliasDense",
    "FixedWidth",
    "GolombRice",
    "Outliers",
    "SparseFloats",
    "Varint",
]


def __dir__() -> list[str]:
    return __all__

"""Codecs: messages to bytes and back. The format is in docs/wire-format.md."""

from qsim.codecs.base import Codec, DecodeError
from qsim.codecs.dense import Dense
from qsim.codecs.elias import Elias, GolombRice
from qsim.codecs.rans import RANS
from qsim.codecs.sparse_floats import SparseFloats
from qsim.codecs.varint import Varint

__all__ = ["RANS", "Codec", "DecodeError", "Dense", "Elias", "GolombRice", "SparseFloats", "Varint"]

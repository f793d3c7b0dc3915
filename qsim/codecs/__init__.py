"""Codecs: messages to bytes and back. The format is in docs/wire-format.md."""

from qsim.codecs.base import Codec, DecodeError
from qsim.codecs.elias import Elias



__all__ = ["Codec", "DecodeError", "Elias"]

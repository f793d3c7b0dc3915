"""Compressors: what a worker makes of its update before it is sent. One small final class for each."""

from qsim.compressors.base import Compressor, NotFiniteError
from qsim.compressors.feedback import ErrorFeedback
from qsim.compressors.identity import Identity
from qsim.compressors.qsgd import QSGD
from qsim.compressors.rotations import DRIVE, EDEN
from qsim.compressors.scaled import Scaled
from qsim.compressors.signs import OneBit, ScaledSign, Sign

__all__ = [
    "DRIVE",
    "EDEN",
    "QSGD",
    "Compressor",
    "ErrorFeedback",
    "Identity",
    "NotFiniteError",
    "OneBit",
    "Scaled",
    "ScaledSign",
    "Sign",
]

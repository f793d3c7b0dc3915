"""Compressors: what a worker makes of its update before it is sent. One small final class for each."""

from qsim.compressors.base import Compressor, NotFiniteError
from qsim.compressors.chances import Bernoulli, Wangni
from qsim.compressors.feedback import ErrorFeedback
from qsim.compressors.identity import Identity
from qsim.compressors.qsgd import QSGD
from qsim.compressors.randk import RandK
from qsim.compressors.rotations import DRIVE, EDEN
from qsim.compressors.scaled import Scaled
from qsim.compressors.signs import OneBit, ScaledSign, Sign
from qsim.compressors.then import Then
from qsim.compressors.topk import HardThreshold, TopK

__all__ = [
    "DRIVE",
    "EDEN",
    "QSGD",
    "Bernoulli",
    "Compressor",
    "ErrorFeedback",
    "HardThreshold",
    "Identity",
    "NotFiniteError",
    "OneBit",
    "RandK",
    "Scaled",
    "ScaledSign",
    "Sign",
    "Then",
    "TopK",
    "Wangni",
]

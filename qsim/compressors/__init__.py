"""Compressors: what a worker makes of its update before it is sent. One small final class for each."""

from qsim.compressors.base import Compressor, NotFiniteError
from qsim.compressors.chances import Bernoulli, Wangni
from qsim.compressors.feedback import ErrorFeedback
from qsim.compressors.identity import Identity
from qsim.compressors.qsgd import QSGD
from qsim.compressors.randk import RandK
from qsim.compressors.scaled import Scaled
from qsim.compressors.then import Then
from qsim.compressors.topk import HardThreshold, TopK

__all__ = [
    "QSGD",
    "Bernoulli",
    "Compressor",
    "ErrorFeedback",
    "HardThreshold",
    "Identity",
    "NotFiniteError",
    "RandK",
    "Scaled",
    "Then",
    "TopK",
    "Wangni",
]

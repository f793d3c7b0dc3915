"""Compressors: what a worker makes of its update before it is sent. One small final class for each."""

from qsim.compressors.base import Compressor, NotFiniteError
from qsim.compressors.bucketed import Bucketed
from qsim.compressors.dither import SubtractiveDither
from qsim.compressors.dithering import NUQSGD, NaturalDithering
from qsim.compressors.feedback import ErrorFeedback
from qsim.compressors.identity import Identity
from qsim.compressors.natural import NaturalCompression
from qsim.compressors.qsgd import QSGD
from qsim.compressors.rounded import RoundedFloats
from qsim.compressors.scaled import Scaled
from qsim.compressors.terngrad import TernGrad

__all__ = [
    "NUQSGD",
    "QSGD",
    "Bucketed",
    "Compressor",
    "ErrorFeedback",
    "Identity",
    "NaturalCompression",
    "NaturalDithering",
    "NotFiniteError",
    "RoundedFloats",
    "Scaled",
    "SubtractiveDither",
    "TernGrad",
]

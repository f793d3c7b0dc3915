"""Compressors: what a worker makes of its update before it is sent. One small final class for each."""

from qsim.compressors.base import Compressor, NotFiniteError, UnsoundMessageError
from qsim.compressors.bernoulli import Bernoulli, Wangni
from qsim.compressors.bucketed import Bucketed
from qsim.compressors.comp_and_mix import CompK, MixK
from qsim.compressors.compose import Compose
from qsim.compressors.correlated import CorrelatedQuantization
from qsim.compressors.count_sketch import CountSketch
from qsim.compressors.dither import SubtractiveDither
from qsim.compressors.dithering import NUQSGD, NaturalDithering
from qsim.compressors.feedback import ErrorFeedback
from qsim.compressors.identity import Identity
from qsim.compressors.kashin import Kashin
from qsim.compressors.low_rank import PowerSGD, RankR
from qsim.compressors.natural import NaturalCompression
from qsim.compressors.per_layer import PerLayer
from qsim.compressors.permk import PermK
from qsim.compressors.philox import Philox
from qsim.compressors.qsgd import QSGD
from qsim.compressors.quicfl import QUICFL
from qsim.compressors.randk import RandK
from qsim.compressors.randseqk import RandSeqK
from qsim.compressors.rotations import DRIVE, EDEN
from qsim.compressors.rounded import RoundedFloats
from qsim.compressors.scaled import Scaled
from qsim.compressors.signs import OneBit, ScaledSign, Sign
from qsim.compressors.symmetric import SymmetricRankR
from qsim.compressors.terngrad import TernGrad
from qsim.compressors.three_point import ThreePCv2
from qsim.compressors.topk import HardThreshold, TopK
from qsim.compressors.toplek import TopLEK

__all__ = [
    "DRIVE",
    "EDEN",
    "NUQSGD",
    "QSGD",
    "QUICFL",
    "Bernoulli",
    "Bucketed",
    "CompK",
    "Compose",
    "Compressor",
    "CorrelatedQuantization",
    "CountSketch",
    "ErrorFeedback",
    "HardThreshold",
    "Identity",
    "Kashin",
    "MixK",
    "NaturalCompression",
    "NaturalDithering",
    "NotFiniteError",
    "OneBit",
    "PerLayer",
    "PermK",
    "Philox",
    "PowerSGD",
    "RandK",
    "RandSeqK",
    "RankR",
    "RoundedFloats",
    "Scaled",
    "ScaledSign",
    "Sign",
    "SubtractiveDither",
    "SymmetricRankR",
    "TernGrad",
    "ThreePCv2",
    "TopK",
    "TopLEK",
    "UnsoundMessageError",
    "Wangni",
]


def __dir__() -> list[str]:
    return __all__

"""qsim: simulate training with quantized gradients, with real workers and real encoded bytes.

>>> import qsim
>>> data = qsim.datasets.load("spark_sample")
>>> trace = qsim.simulate(
...     data,
...     objective=qsim.LogisticRegression(l2=0.01),
...     method=qsim.GradientDescent(step=qsim.steps.Constant(0.1)),
...     compressor=qsim.QSGD(levels=4),
...     workers=8,
...     rounds=20,
... )
>>> bool(trace.frame["loss"].iloc[-1] < trace.frame["loss"].iloc[0])
True
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qsim.interrupts import interrupts_held

__version__ = "0.1.0.dev0"

if os.environ.get("QSIM_CACHE_DIR"):  # the same folder later, and in other processes, wherever they work
    os.environ["QSIM_CACHE_DIR"] = os.path.abspath(os.path.expanduser(os.environ["QSIM_CACHE_DIR"]))  # noqa: PTH100, PTH111

if TYPE_CHECKING:
    from qsim import (
        batch,
        channel,
        checkpoint,
        clients,
        codecs,
        compressors,
        datasets,
        downlinks,
        engines,
        keys,
        methods,
        network,
        objectives,
        problem,
        references,
        shrinkage,
        simulation,
        starts,
        steps,
        study,
        testing,
        trace,
        until,
        verify,
    )
    from qsim.channel import Channel
    from qsim.compressors import (
        DRIVE,
        EDEN,
        NUQSGD,
        QSGD,
        Bernoulli,
        Bucketed,
        ErrorFeedback,
        HardThreshold,
        Identity,
        NaturalCompression,
        NaturalDithering,
        OneBit,
        Philox,
        RandK,
        RoundedFloats,
        Scaled,
        ScaledSign,
        Sign,
        SubtractiveDither,
        TernGrad,
        Then,
        TopK,
        Wangni,
    )
    from qsim.datasets import Dataset
    from qsim.keys import Key
    from qsim.methods import SGD, GradientDescent
    from qsim.network import Network
    from qsim.objectives import LogisticRegression
    from qsim.options import option
    from qsim.simulation import Run, simulate
    from qsim.trace import Trace

_ROOMS = (
    "batch",
    "channel",
    "checkpoint",
    "clients",
    "codecs",
    "compressors",
    "datasets",
    "downlinks",
    "engines",
    "keys",
    "methods",
    "network",
    "objectives",
    "problem",
    "references",
    "shrinkage",
    "simulation",
    "starts",
    "steps",
    "study",
    "testing",
    "trace",
    "until",
    "verify",
)
_HOME = {
    "Bernoulli": "qsim.compressors",
    "Bucketed": "qsim.compressors",
    "Channel": "qsim.channel",
    "DRIVE": "qsim.compressors",
    "Dataset": "qsim.datasets",
    "EDEN": "qsim.compressors",
    "ErrorFeedback": "qsim.compressors",
    "GradientDescent": "qsim.methods",
    "HardThreshold": "qsim.compressors",
    "Identity": "qsim.compressors",
    "Key": "qsim.keys",
    "LogisticRegression": "qsim.objectives",
    "NUQSGD": "qsim.compressors",
    "NaturalCompression": "qsim.compressors",
    "NaturalDithering": "qsim.compressors",
    "Network": "qsim.network",
    "OneBit": "qsim.compressors",
    "Philox": "qsim.compressors",
    "QSGD": "qsim.compressors",
    "RandK": "qsim.compressors",
    "RoundedFloats": "qsim.compressors",
    "Run": "qsim.simulation",
    "SGD": "qsim.methods",
    "Scaled": "qsim.compressors",
    "ScaledSign": "qsim.compressors",
    "Sign": "qsim.compressors",
    "SubtractiveDither": "qsim.compressors",
    "TernGrad": "qsim.compressors",
    "Then": "qsim.compressors",
    "TopK": "qsim.compressors",
    "Trace": "qsim.trace",
    "Wangni": "qsim.compressors",
    "option": "qsim.options",
    "simulate": "qsim.simulation",
}

__all__ = [
    "DRIVE",
    "EDEN",
    "NUQSGD",
    "QSGD",
    "SGD",
    "Bernoulli",
    "Bucketed",
    "Channel",
    "Dataset",
    "ErrorFeedback",
    "GradientDescent",
    "HardThreshold",
    "Identity",
    "Key",
    "LogisticRegression",
    "NaturalCompression",
    "NaturalDithering",
    "Network",
    "OneBit",
    "Philox",
    "RandK",
    "RoundedFloats",
    "Run",
    "Scaled",
    "ScaledSign",
    "Sign",
    "SubtractiveDither",
    "TernGrad",
    "Then",
    "TopK",
    "Trace",
    "Wangni",
    "__version__",
    "batch",
    "channel",
    "checkpoint",
    "clients",
    "codecs",
    "compressors",
    "datasets",
    "downlinks",
    "engines",
    "keys",
    "methods",
    "network",
    "objectives",
    "option",
    "problem",
    "references",
    "shrinkage",
    "simulate",
    "simulation",
    "starts",
    "steps",
    "study",
    "testing",
    "trace",
    "until",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a room or a public name when it is first used, so that `import qsim` costs next to nothing."""
    home = f"qsim.{name}" if name in _ROOMS else _HOME.get(name)
    if home is not None:
        with interrupts_held():  # NumPy's own import makes an ImportError of one
            room = import_module(home)
        return room if name in _ROOMS else getattr(room, name)
    raise AttributeError(f"module 'qsim' has no attribute {name!r}; its public names are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__

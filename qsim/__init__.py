"""qsim: simulate training with quantized gradients, with real workers and real encoded bytes.

The top level holds what a script of ten lines needs: all compressors, methods and objectives, `load` and `Dataset`,
`simulate` with `Run`, `Trace`, `plot` and `Network`, and for classes of one's own `option`, `Key` and `Channel`. The
rest is in named modules such as `qsim.codecs`, `qsim.steps` and `qsim.network`.

>>> import qsim
>>> trace = qsim.simulate(
...     "spark_sample",
...     objective=qsim.LogisticRegression(l2=0.01),
...     method=qsim.GradientDescent(step=0.1),
...     compressor=qsim.QSGD(levels=4),
...     workers=8,
...     rounds=20,
... )
>>> bool(trace.frame["loss"].iloc[-1] < trace.frame["loss"].iloc[0])
True
"""

from __future__ import annotations

import os
from typing import Any

import lazy_loader

from qsim.interrupts import interrupts_held

if os.environ.get("QSIM_CACHE_DIR"):  # the same folder later, and in other processes, wherever they work
    os.environ["QSIM_CACHE_DIR"] = os.path.abspath(os.path.expanduser(os.environ["QSIM_CACHE_DIR"]))  # noqa: PTH100, PTH111

_import, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Import a module or a public name of `__init__.pyi` when it is first used, so that `import qsim` costs little."""
    if name not in __all__:
        raise AttributeError(f"module 'qsim' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    with interrupts_held():  # NumPy's own import makes an ImportError of one
        return _import(name)

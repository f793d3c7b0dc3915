"""The software on a machine of a cluster, and whether workers can run there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


def inspector(paths: Sequence[str] = ()) -> Callable[[], Facts]:
    """Return a function that tells what is on the machine that calls it.

    It is pickled by value, and imports what it needs, since a machine may lack qsim or have another version of it.
    paths: folders of the driver's that Python shall look in, too, behind its own, where they are there.
    """

    def inspect() -> Facts:
        import os
        import socket
        import sys
        from pathlib import Path

        sys.path += [path for path in paths if path not in sys.path and Path(path).is_dir()]
        facts: dict[str, Any] = {"host": socket.gethostname(), "interpreter": sys.executable, "pid": os.getpid()}
        facts["machine"] = facts["host"]
        try:  # of two containers that call themselves alike, too
            boot = Path("/proc/sys/kernel/random/boot_id").read_text()
            facts["machine"] += f" {boot.strip()} {Path('/proc/self/ns/pid').readlink()}"
        except OSError:
            pass
        versions = facts["versions"] = {"Python": ".".join(map(str, sys.version_info[:2]))}
        try:
            import qsim

            versions["qsim"] = qsim.__version__
            import numba
            import numpy
            import scipy

            versions |= {"NumPy": numpy.__version__, "Numba": numba.__version__, "SciPy": scipy.__version__}
            from qsim.kernels._jit import source_digest

            versions["the digest of qsim's kernels"] = source_digest()
        except Exception as error:
            facts["error"] = f"{type(error).__name__}: {error}"
        return facts

    return inspect


def refusal(found: Facts, wanted: Mapping[str, str]) -> str:
    """Say why workers can't run on a machine, where versions are wanted; nothing if they can."""
    where, versions = f"{found['host']} ({found['interpreter']})", found["versions"]
    other = [name for name in wanted if name in versions and versions[name] != wanted[name]]
    if other:
        differences = ", ".join(f"{name} is {versions[name]}, here {wanted[name]}" for name in other)
        return (
            f"{where} would not give the same numbers: {differences}; install there what is installed here"
            " (docs/clusters.md)"
        )
    if "error" in found:
        return (
            f"{where} can't run workers ({found['error']}); install qsim there, or name an interpreter that has it"
            " (docs/clusters.md)"
        )
    return ""


def search_path() -> list[str]:
    """Return the folders in which this process looks for modules, as absolute paths."""
    return [str(Path(path).absolute()) for path in sys.path if not path.endswith(".zip")]

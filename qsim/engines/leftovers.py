"""The folder of the fork server's socket: nothing of it stays.

This process removes it at its end, its children do so when it was killed, and else the next run does.
"""

from __future__ import annotations

import multiprocessing as mp
import os
from contextlib import suppress
from multiprocessing.util import Finalize
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from qsim.storage import locked, private_temporary

_LONGEST = 60  # of a folder's name: a socket's address must stay below 104 bytes
_SHORT = "/tmp"  # where a folder goes whose name would be longer


def socket_folder() -> str | None:
    """Choose the folder in which `multiprocessing` has its sockets, if it has none yet; returns one that is ours.

    It is locked while this process lives, so that others can tell that it is in use.
    """
    import fcntl

    settings: dict[str, Any] = mp.current_process()._config  # type: ignore[attr-defined]
    if "tempdir" in settings:
        return _OURS.get(os.getpid())
    try:
        base = private_temporary()
        if len(str(base)) > _LONGEST:
            base = private_temporary(_SHORT)
        with locked(base / "sockets.lock"):
            for old in base.glob("sockets-*"):
                with suppress(OSError):
                    _remove_unused(old)
            folder = mkdtemp(prefix="sockets-", dir=base)
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # open as long as this process lives
    except OSError:
        return None  # multiprocessing makes its own
    Finalize(None, rmtree, args=(folder, True), exitpriority=-100)
    settings["tempdir"] = _OURS[os.getpid()] = folder
    return folder


_OURS: dict[int, str] = {}


def _remove_unused(folder: Path) -> None:
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rmtree(folder)
    finally:
        os.close(descriptor)

"""Checkpoints: a run that is killed at any instant goes on from its last one, to the same bits.

A file holds the identity of its run (`qsim.identity`) and is told by a checksum to be whole.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qsim.batch import Arrays
from qsim.identity import Identity, UnknowableError, identify
from qsim.storage import read_arrays, replacing, write_arrays

if TYPE_CHECKING:
    from qsim.simulation.run import Run


class CheckpointError(ValueError):
    """Raised for a checkpoint that is not of this run, or cannot be read."""


class Checkpoint:
    """Two generations of a run's state on disk: PATH, and the one before it, in case PATH is torn."""

    def __init__(self, path: str | Path, run: Run) -> None:
        """Use `path` (.npz) for a run. Raises CheckpointError for a run whose identity cannot be told."""
        self.path = Path(path)
        if self.path.suffix != ".npz":
            raise ValueError(
                f"a checkpoint is an .npz file, found {self.path.name!r}; write {self.path.name + '.npz'!r}"
            )
        self.before = self.path.with_name(f"{self.path.stem}.before.npz")
        self._readable = False
        try:
            self._identity = identify(run)
        except UnknowableError as error:
            raise CheckpointError(f"no checkpoint of this run can be told from that of another: {error}") from error

    def save(self, state: Arrays) -> None:
        """Write a state; the one written before becomes the older generation."""
        about = np.array(json.dumps(self._identity.about()))
        with replacing(self.path) as temporary:
            with temporary.open("w+b") as file:
                write_arrays(file, state | {"identity": about})
            if self._readable:  # a torn file must not take the place of a good one
                self.path.replace(self.before)
        self._readable = True

    def load(self) -> Arrays | None:
        """Return the newest state that can be read, or None if there is no file.

        Raises CheckpointError if the files are of another run, naming the differences, or if none can be read.
        """
        found = [path for path in (self.path, self.before) if path.exists()]
        for path in found:
            try:
                state = read_arrays(path)
                saved = Identity(**json.loads(str(state.pop("identity"))))
            except (ValueError, KeyError, TypeError) as error:
                warnings.warn(f"the checkpoint {path} can't be used: {error}; looking for the one before", stacklevel=3)
                continue
            differences = saved.differences(self._identity)
            if differences:
                raise CheckpointError(
                    f"{path} is of another run: {'; '.join(differences)}. Name another file, or delete this one"
                )
            self._readable = path == self.path
            return state
        if found:
            raise CheckpointError(f"no generation of {self.path} can be read; delete it to start from the beginning")
        return None

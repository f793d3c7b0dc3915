"""Checkpoints: a run that is killed at any instant goes on from its last one, to the same bits."""

from __future__ import annotations

import json
import warnings
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qsim.batch import Arrays
from qsim.storage import read_arrays, replacing

if TYPE_CHECKING:
    from qsim.simulation import Run


class CheckpointError(ValueError):
    """A checkpoint that is not of this run, or cannot be read."""


class Checkpoint:
    """Two generations of a run's state on disk: PATH, and the one before it, in case PATH is torn."""

    def __init__(self, path: str | Path, run: Run) -> None:
        """Use `path` (.npz) for a run."""
        from qsim.kernels._jit import source_digest

        self.path = Path(path)
        if self.path.suffix != ".npz":
            raise ValueError(
                f"a checkpoint is an .npz file, found {self.path.name!r}; write {self.path.name + '.npz'!r}"
            )
        self.before = self.path.with_name(f"{self.path.stem}.before.npz")
        self._readable = False
        self._run = {field.name: repr(getattr(run, field.name)) for field in fields(run)}
        self._run |= {"the data's digest": run.load().digest, "the kernels' digest": source_digest()}

    def save(self, state: Arrays) -> None:
        """Write a state; the one written before becomes the older generation."""
        with replacing(self.path) as temporary:
            np.savez(temporary, run=json.dumps(self._run), **state)  # type: ignore[arg-type]
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
                saved = dict(json.loads(str(state.pop("run"))))
            except (ValueError, KeyError, TypeError) as error:
                warnings.warn(f"the checkpoint {path} is torn ({error}); looking for the one before", stacklevel=2)
                continue
            self._require_same(path, saved)
            self._readable = path == self.path
            return state
        if found:
            raise CheckpointError(f"no generation of {self.path} can be read; delete it to start from the beginning")
        return None

    def _require_same(self, path: Path, saved: dict[str, str]) -> None:
        names = [name for name in {**self._run, **saved} if self._run.get(name) != saved.get(name)]
        if names:
            listed = "; ".join(f"{name} was {saved.get(name)}, now {self._run.get(name)}" for name in names)
            raise CheckpointError(f"{path} is of another run: {listed}. Name another file, or delete this one")

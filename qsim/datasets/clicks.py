"""Click logs that are drawn at random, of any size."""

from __future__ import annotations

import gzip
from os import PathLike, fspath

import numpy as np

from qsim.datasets.files import expanded
from qsim.keys import Key, Purpose
from qsim.options import whole
from qsim.storage import replacing

_ROWS = 4096  # that are written at a time


def save_clicks(path: str | PathLike[str], rows: int, *, part: int = 0, seed: int = 0) -> None:
    """Write a click log that is drawn at random, for tests and benchmarks.

    Parameters
    ----------
    path : str or path-like
        The file; compressed if its name ends in .gz.
    rows : int
        How many lines, about 200 bytes each: those of a shorter log are the first of a longer one.
    part : int, default 0
        Which rows: those of different parts are drawn independently, with labels of the same model.
    seed : int, default 0
        The seed of everything, the model too.

    Raises
    ------
    ValueError
        For numbers that make no sense.
    OSError
        If the file cannot be written.

    Notes
    -----
    The columns are those of `CLICK_LOG`: a label, 13 counts with heavy tails, and 26 categories of 10 to 2,000,000
    values, some of them frequent, most of them rare. Up to 45 percent of a column are missing. The labels are those of
    a logistic model with an effect of each category and of the logarithm of each count; about a quarter is 1.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import qsim
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "clicks.tsv"
    ...     save_clicks(path, 1000)
    ...     qsim.datasets.HashedText(path).load()
    Dataset('clicks', 1,000 x 1,048,576, 27,292 non-zeros, 255 positive)
    """
    from qsim.kernels.clicks import LONGEST, write_clicks

    rows, part = whole("rows", rows, least=1, most=2**62), whole("part", part, least=0, most=2**62)
    root = Key(whole("seed", seed, least=0, most=2**64 - 1)).fold(Purpose.SYNTHETIC)
    model, draw = np.uint64(root.fold(0).word), np.uint64(root.fold(1, part).word)
    out = np.empty(_ROWS * LONGEST, np.uint8)
    with replacing(expanded(fspath(path))) as temporary, temporary.open("wb") as raw:
        stream = gzip.GzipFile("", "wb", 6, raw, mtime=0) if fspath(path).endswith(".gz") else raw
        for first in range(0, rows, _ROWS):
            size = write_clicks(model, draw, first, min(_ROWS, rows - first), out)
            stream.write(memoryview(out)[:size])
        if stream is not raw:
            stream.close()

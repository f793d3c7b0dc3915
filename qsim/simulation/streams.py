"""State of the streams between workers and server: headers and weights that were sent before."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qsim.batch import Arrays
from qsim.weights import Weights


class Streams:
    """Which worker's streams have been opened: the header goes, and is counted, with a worker's first packet."""

    def __init__(self, workers: int) -> None:
        """Begin with none opened."""
        self.opened: dict[str, NDArray[np.bool_]] = {}
        """For each kind of stream, whose has sent its header."""
        self._everyones = set[str]()
        """The kinds whose streams have all been opened."""
        self._nobody = np.zeros(workers, bool)
        self._headers: dict[str, bytes] = {}
        self._workers = workers

    def unopened(self, stream: str) -> NDArray[np.bool_]:
        """Return whose stream of a kind has not been opened."""
        if stream in self._everyones:
            return self._nobody
        found = self.opened.get(stream)
        return np.ones(self._workers, bool) if found is None else ~found

    def open(self, stream: str, who: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Open the streams of some workers; return those for whom that is new."""
        before = self.unopened(stream)
        if before is self._nobody:
            return before
        self.opened[stream] = ~before | who
        if self.opened[stream].all():
            self._everyones.add(stream)
        return before & who

    def require_same(self, stream: str, header: bytes) -> None:
        """Refuse another header than the one that was sent: what varies must be in the packets, where it is counted."""
        sent = self._headers.setdefault(stream, header)
        if header != sent:
            raise ValueError(
                f"the stream ({stream}) was opened with the header {sent.hex(' ')}, but a message needs"
                f" {header.hex(' ')}: what varies from message to message (n, s, the bucket, a fixed scale) cannot be"
                " in the header, which is sent once"
            )

    def snapshot(self) -> Arrays:
        """Return all as arrays."""
        names = sorted(self.opened)
        return {
            "names": np.array(names, np.str_),
            "opened": np.array([self.opened[name] for name in names], bool).reshape(len(names), self._workers),
            "headers": np.array([self._headers.get(name, b"").hex() for name in names], np.str_),
        }

    def restore(self, saved: Arrays) -> None:
        """Go back to a snapshot."""
        names = saved["names"].tolist()
        self.opened = dict(zip(names, saved["opened"], strict=True))
        self._everyones = {name for name, who in self.opened.items() if who.all()}
        headers = zip(names, saved["headers"].tolist(), strict=True)
        self._headers = {name: bytes.fromhex(header) for name, header in headers if header}


Format = Literal["float32", "float64"]


class Held:
    """Which workers hold all of the weights that were sent last, and in which format."""

    def __init__(self, workers: int) -> None:
        """Begin with nobody holding anything."""
        self._nobody = np.zeros(workers, bool)
        self._stamp: object = None
        self._copies: dict[Format, tuple[NDArray[np.floating], NDArray[np.bool_]]] = {}

    def by(self, w: Weights, dtype: Format) -> NDArray[np.bool_]:
        """Return who can compute at the weights in a format; float64 can be rounded to float32."""
        if w.stamp is not self._stamp:
            return self._nobody
        who = self._nobody
        for have, (copy, holders) in self._copies.items():
            if have in ("float64", dtype) and _is_copy(copy, w):
                who = who | holders
        return who

    def learn(self, w: Weights, dtype: Format, copy: NDArray[np.floating], who: NDArray[np.bool_]) -> None:
        """Take note of who has received the weights, and as what."""
        if w.stamp is not self._stamp:
            self._stamp, self._copies = w.stamp, {}
        self._copies[dtype] = copy, who | self._copies.get(dtype, (copy, who))[1]

    def snapshot(self, w: Weights) -> Arrays:
        """Return who holds the weights w, as arrays by format."""
        if w.stamp is not self._stamp:
            return {}
        return {dtype: holders for dtype, (copy, holders) in self._copies.items() if _is_copy(copy, w)}

    def restore(self, w: Weights, saved: Arrays) -> None:
        """Go back to a snapshot of w."""
        formats: tuple[Format, ...] = ("float32", "float64")
        self._stamp = w.stamp
        self._copies = {dtype: (w.dense().astype(dtype), saved[dtype]) for dtype in formats if dtype in saved}


def _is_copy(copy: NDArray[np.floating], w: Weights) -> bool:
    """Whether nobody wrote into the weights since they were sent."""
    return np.array_equal(copy, w.dense().astype(copy.dtype))

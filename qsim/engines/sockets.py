"""Objects over TCP, between ends that know the same key: the driver's listens, workers on any machine call it."""

from __future__ import annotations

import hmac
import pickle
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Thread
from typing import Any

_NONCE = 32
_SMALL = 1 << 16  # bytes, which one system call sends
_GREETING_SECONDS, _CALLING_SECONDS = 10.0, 10.0

Frames = Sequence[bytes | memoryview]
"""An object, pickled: the sizes of all that follows, the pickle, and the memory of its arrays, which is not copied."""


def frames(thing: object) -> Frames:
    """Pickle an object, once for all that it is sent to. Its arrays must stay as they are until then."""
    buffers: list[pickle.PickleBuffer] = []
    blob = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(blob), *(memoryview(buffer.raw()) for buffer in buffers)]
    sizes = [part.nbytes for part in parts]
    return [struct.pack(f"!I{len(sizes)}Q", len(sizes), *sizes), *parts]


class Line:
    """A connection between two ends that have shown each other that they know the key."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connected

    def send(self, parts: Frames, patience: float | None = None) -> None:
        """Send an object. Raises OSError if the other end is gone, or takes nothing for as long as the patience."""
        self._socket.settimeout(patience)
        if sum(len(part) for part in parts) <= _SMALL:
            self._socket.sendall(b"".join(parts))
            return
        for part in parts:
            self._socket.sendall(part)

    def receive(self, patience: float | None = None) -> Any:
        """Return the next object. Raises OSError if the other end is gone, TimeoutError if it is silent."""
        self._socket.settimeout(patience)
        (count,) = struct.unpack("!I", self._take(4))
        sizes = struct.unpack(f"!{count}Q", self._take(8 * count))
        blob, *buffers = (self._take(size) for size in sizes)
        return pickle.loads(blob, buffers=buffers)

    def close(self) -> None:
        """End the connection, also for one who waits for it in another thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _take(self, size: int) -> bytearray:
        """Receive this many bytes."""
        taken = bytearray(size)
        rest = memoryview(taken)
        while rest:
            got = self._socket.recv_into(rest)
            if not got:
                raise ConnectionResetError("the other end has closed the connection")
            rest = rest[got:]
        return taken


class Home:
    """Where workers call: an address at which whoever knows the key is admitted, in a thread.

    admit: takes the line of a newcomer, and the object that it sent first.
    """

    def __init__(self, host: str, port: int, admit: Callable[[Line, Any], None]) -> None:
        self.key = secrets.token_bytes(32)
        self._admit = admit
        self._socket = socket.create_server((host, port), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._thread = Thread(target=self._listen, name="qsim-home", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Admit nobody any more."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the wait of the thread
        self._socket.close()
        self._thread.join(1.0)

    def _listen(self) -> None:
        while True:
            try:
                connected, _ = self._socket.accept()
            except OSError:
                return
            Thread(target=self._greet, args=(connected,), daemon=True).start()  # a stranger may say nothing for long

    def _greet(self, connected: socket.socket) -> None:
        line = Line(connected)
        connected.settimeout(_GREETING_SECONDS)
        try:
            nonce = secrets.token_bytes(_NONCE)
            connected.sendall(nonce)
            answer = bytes(line._take(_NONCE + 32))
            theirs = answer[:_NONCE]
            if not hmac.compare_digest(answer[_NONCE:], _proof(self.key, b"worker", nonce, theirs)):
                raise ConnectionRefusedError("a stranger")
            connected.sendall(_proof(self.key, b"driver", theirs, nonce))
            hello = line.receive(_GREETING_SECONDS)
        except (OSError, pickle.PickleError):
            line.close()
            return
        self._admit(line, hello)


def call(address: tuple[str, int], key: bytes, hello: object) -> Line:
    """Call the driver, and say hello. Raises OSError if it can't be reached, or does not know the key."""
    end = time.monotonic() + _CALLING_SECONDS
    while True:
        try:
            connected = socket.create_connection(address, timeout=_GREETING_SECONDS)
            break
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    line = Line(connected)
    try:
        nonce, mine = bytes(line._take(_NONCE)), secrets.token_bytes(_NONCE)
        connected.sendall(mine + _proof(key, b"worker", nonce, mine))
        if not hmac.compare_digest(bytes(line._take(32)), _proof(key, b"driver", mine, nonce)):
            raise ConnectionRefusedError("who answers there is not the driver")
        line.send(frames(hello), _GREETING_SECONDS)
    except BaseException:
        line.close()
        raise
    return line


def _proof(key: bytes, role: bytes, *nonces: bytes) -> bytes:
    return hmac.digest(key, role + b"".join(nonces), "sha256")

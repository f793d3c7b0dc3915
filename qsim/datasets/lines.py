"""Streams of text, a buffer of whole lines at a time."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase


def blocks_of_lines(stream: BufferedIOBase, size: int, padding: int) -> Iterator[tuple[bytearray, int]]:
    """Yield a buffer again and again, and how many of its bytes are whole lines; at least `padding` bytes follow them.

    The buffer has `size` bytes, or more if a line is longer. The last line gets its newline if it has none.
    """
    text, held = bytearray(size + padding), 0
    while got := stream.readinto(memoryview(text)[held : len(text) - padding]):
        held += got
        if held < len(text) - padding:
            continue
        end = text.rfind(b"\n", 0, held) + 1
        if end:
            yield text, end
            text[: held - end] = text[end:held]
            held -= end
        else:  # a line that is longer than the buffer
            text = text[:held] + bytearray(held + padding)
    if held:
        ends = text[held - 1] == ord("\n")
        text[held] = ord("\n")
        yield text, held + (not ends)

"""Elias and Golomb-Rice code words as strings of zeros and ones, written from docs/wire-format.md."""

from __future__ import annotations

import struct


def gamma(number: int) -> str:
    return "0" * (number.bit_length() - 1) + f"{number:b}"


def delta(number: int) -> str:
    return gamma(number.bit_length()) + f"{number:b}"[1:]


def omega(number: int) -> str:
    word = "0"
    while number > 1:
        word, number = f"{number:b}{word}", number.bit_length() - 1
    return word


def rice(number: int, r: int) -> str:
    rest = f"{(number - 1) % 2**r:b}".zfill(r) if r else ""
    return "0" * ((number - 1) >> r) + "1" + rest


def rice_parameter(n: int, k: int) -> int:
    r = 0
    while 13 * k * 2 ** (r + 1) <= 9 * (n - k):
        r += 1
    return r


def packet(code: str, n: int, floats: list[float], entries: dict[int, int | float], s: int) -> bytes:
    """The packet of Elias(code), or of GolombRice (code "rice"), as a string of zeros and ones."""
    prefix = b"".join(struct.pack("<f", x) for x in floats)
    if not entries:
        return prefix
    words = {"gamma": gamma, "delta": delta, "omega": omega}
    number, bits, previous = words.get(code, gamma), "", -1
    if code == "rice":
        r = rice_parameter(n, len(entries))
        bits = f"{r:08b}"
    for c in sorted(entries):
        bits += rice(c - previous, r) if code == "rice" else number(c - previous)
        if s == 0:
            bits += f"{struct.unpack('<I', struct.pack('<f', entries[c]))[0]:032b}"
        else:
            bits += "01"[entries[c] < 0] + (number(abs(int(entries[c]))) if s > 1 else "")
        previous = c
    bits += ("1" if code == "omega" else "0") * (-len(bits) % 8)
    return prefix + bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))

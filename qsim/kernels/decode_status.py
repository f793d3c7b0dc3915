"""Why a decoder refuses a packet, what entries carry, how long vectors may be: what kernels and codecs share."""

FINE, TRUNCATED, OVERLONG, PAST_N, PAST_LEVELS, NOT_FINITE, UNFILLED, EMPTY, ZERO = range(9)
BAD_TABLE, NO_SYMBOL, LEFT_OVER, NO_ZERO = range(9, 13)
"""What a decoder found: 0 for a good packet, else the reason for refusing it."""

FLOATS, SIGNS, LEVELS, DOUBLES = range(4)
"""What an entry carries besides its gap: a float32, a level (signs are levels of 1), or a float64."""

LARGEST = 2**48
"""Vectors may be so long in codes of bits: places of bits fit 64 bits then, and code words what the kernels reserve."""

"""The error of all that reads data."""


class DataError(ValueError):
    """Data that cannot be used. The text says what was found, where, and what to write instead."""

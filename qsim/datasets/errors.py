"""The error of all that reads data."""


class DataError(ValueError):
    """Raised for data that cannot be used; the message says what was found, where, and what to write instead."""

"""The checkout, the package, and the environment in which another process imports it."""

from __future__ import annotations

import os
from pathlib import Path

import qsim

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = Path(qsim.__file__).parent


def process_environment(**settings: str) -> dict[str, str]:
    """Return what other processes find the package by, with further settings."""
    return os.environ | {"PYTHONPATH": str(PACKAGE.parent)} | settings

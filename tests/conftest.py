"""Settings of the test-suite."""

import os
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # the oracles
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("qsim", deadline=None, print_blob=True, max_examples=60)
settings.load_profile("qsim")

"""`python -m qsim.study`."""

import sys

from qsim.study.cli import main

if __name__ == "__main__":
    sys.exit(main())

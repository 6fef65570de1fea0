"""``python -m pywebtransport``: the command line, as the program ``pywebtransport``."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())

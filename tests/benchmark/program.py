"""One end of a connection of one library: ``program.py OPTIONS`` with a JSON object.

Run by the Python of the library's own virtualenv with ``-P``: what it imports is what is installed
there, not the checkout.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

# Last on the path, and the package is ``peers``: the libraries keep their own names.
sys.path.append(str(Path(__file__).resolve().parent))

shared = importlib.import_module("peers.shared.interface")
main = importlib.import_module("peers.shared.run").main

if __name__ == "__main__":
    options = shared.Options(**json.loads(sys.argv[1]))
    main(importlib.import_module(f"peers.{options.library.replace('-', '_')}"), options)

"""``python -m tests.benchmark.core --output DIR [--quick]``: writes core.json and core.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from pywebtransport.utils import generate_self_signed_cert

from .run import build, measure, table


def main(arguments: list[str] | None = None) -> int:
    """Build, measure, write; what fails is said on standard error."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.core", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="directory")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, once")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        program = build()
        with TemporaryDirectory() as folder:
            certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=folder)
            figures = measure(
                program,
                certfile,
                keyfile,
                repetitions=1 if options.quick else 3,
                scale=0.1 if options.quick else 1.0,
            )
    except (subprocess.SubprocessError, OSError) as error:
        print(getattr(error, "stderr", None) or error, file=sys.stderr)
        return 1
    text = json.dumps({name: [asdict(one) for one in all_] for name, all_ in figures.items()})
    (options.output / "core.json").write_text(text + "\n")
    (options.output / "core.md").write_text(table(figures))
    print(table(figures), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

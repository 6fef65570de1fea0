"""The argument parser, and what happens to errors of a verb."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._plain import printable_line
from .._version import __version__
from ..exceptions import WebTransportError
from ..utils._system import explain_os_error
from . import bench, cert, connect, probe, serve
from .status import Status, complaint, status_of

__all__ = ["main", "make_parser"]

VERBS = (serve, connect, probe, cert, bench)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs; ``arguments.run`` is the function of the verb."""
    parser = argparse.ArgumentParser(
        prog="pywebtransport",
        description="WebTransport servers and clients on the command line.",
        epilog="'pywebtransport VERB --help' describes a verb.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pywebtransport {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for module in VERBS:
        module.add_verb(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        argv: The arguments; default those of the process.

    Returns:
        The exit status, see ``Status``.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed by the parent
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  it stays open
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = make_parser().parse_args(words)
    arguments.words = words
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has ended, such as "head". Python flushes once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.FAILED
    except WebTransportError as error:
        _complain(arguments.verb, complaint(error))
        return status_of(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(arguments.verb, f"{where}{explain_os_error(error)}")
        return Status.FAILED
    return status


def _complain(verb: str, text: str) -> None:
    """Print why the verb ended; the text may have words of the server."""
    print(f"pywebtransport {verb}: error: {printable_line(text)}", file=sys.stderr)

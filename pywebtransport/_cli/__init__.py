"""The command line. The library does not import it; each verb is a module."""

from .program import main

__all__ = ["main"]

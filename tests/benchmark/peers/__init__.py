"""The programs that are measured: one module per library, each with both ends of a connection.

They run in the virtualenv of their library, started by ``tests/benchmark/program.py``; what they
share is in ``shared`` and needs nothing but the standard library.
"""

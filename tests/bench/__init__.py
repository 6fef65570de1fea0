"""Benchmarks: ``make bench``. Figures of one machine; compare them on one machine only."""

"""Benchmarks of the package, its regression guard and its growth measurements."""

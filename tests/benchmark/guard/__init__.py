"""The regression guard: instruction counts of fixed workloads, ``make bench-guard``."""

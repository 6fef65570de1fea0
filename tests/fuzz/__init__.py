"""Fuzzing: C targets for libFuzzer, Python targets for atheris, and their corpora."""

"""The bare engine in C: the floor under the figures of the package."""

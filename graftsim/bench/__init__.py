"""Benchmarks: contestants of one case take turns in one process; see ``docs/benchmarks.md``."""

"""Measurements behind the figures in docs/benchmarks.md; run them with ./run bench."""

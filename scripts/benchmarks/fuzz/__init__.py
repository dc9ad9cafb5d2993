"""Damaged and strange inputs given to all readers: ``python -m scripts.benchmarks.fuzz``."""

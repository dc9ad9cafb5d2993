"""The projector beside other engines: ``python -m scripts.benchmarks.drr``."""

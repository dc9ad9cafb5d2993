"""The projector beside other engines: ``python -m benchmarks.drr``."""

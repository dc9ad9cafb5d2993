"""The generator: from two patches to one vertebra; networks, losses, training, metrics."""

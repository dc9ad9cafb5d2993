"""Other published ways from two images to a volume, at our interface (B, 4, N, N) -> (B, 1, N, N, N).

Each is a `networks.generator.Generator` of small parts, put together in ``configs/baselines``: what it is shown
(`inputs`), where 2D becomes 3D (`lifts`, or our own `ReplicateLift`), and a 3D network (MONAI's where it has one).
Widths, strides and depths are those of the public implementations, named in each docstring; the code is our own.
"""

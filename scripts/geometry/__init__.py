"""Frames, the two views, the radiograph projector and cropping. Nothing else knows about magnification."""

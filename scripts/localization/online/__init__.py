"""Whole films made afresh at each step, to train the annotation network on."""

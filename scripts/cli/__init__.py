"""The verbs of ``python -m scripts``: each hands what it is given to the room that does the work."""

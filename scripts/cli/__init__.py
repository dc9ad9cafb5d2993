"""The verbs of ``python -m scripts``: each turns words into types and hands them to the room that does the work."""

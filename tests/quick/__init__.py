"""A DICOM node whose engine takes a moment instead of seconds, to be killed often; see test_listener.py."""

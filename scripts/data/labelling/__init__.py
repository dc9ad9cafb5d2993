"""A CT without masks becomes a labelled case: marks by eye, library shapes fitted to the bone, a sheet to judge by."""

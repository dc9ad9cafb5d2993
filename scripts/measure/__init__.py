"""What a reconstructed spine measures, and what of it can be true."""

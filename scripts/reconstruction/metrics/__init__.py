"""How well a reconstructed vertebra agrees with the true one, in mm, with failures counted."""

"""Training samples made afresh at each step: patients in memory, a new deformation and new films every time."""

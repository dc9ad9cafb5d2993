"""From CT cases to a prepared dataset of vertebrae."""

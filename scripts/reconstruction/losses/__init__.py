"""The integrated loss of the paper and its terms."""

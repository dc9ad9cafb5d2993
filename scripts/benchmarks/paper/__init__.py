"""Every system side by side: train a matrix of models and seeds, score them alike, write one report."""

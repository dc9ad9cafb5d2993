"""What is measured: the paper's tables, and one command for every other comparison."""

"""What only the generator's training needs."""

"""What is known of spines before any patient is looked at."""

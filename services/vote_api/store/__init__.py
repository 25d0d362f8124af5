"""What the vote API knows of the store."""

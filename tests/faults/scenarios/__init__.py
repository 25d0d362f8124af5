"""What is broken, a file a kind."""

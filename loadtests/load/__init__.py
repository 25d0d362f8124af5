"""Load with a verdict."""

"""A roster file becomes candidates."""

"""The like path: protocol, path, batchers; and what a voter has liked."""

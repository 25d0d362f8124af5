"""The like path: protocol, path, body, batchers."""

"""How a client becomes a voter."""

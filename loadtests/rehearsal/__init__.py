"""A whole campaign through real stores, with a comparison to the like at the end."""

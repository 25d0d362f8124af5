"""Services with one step of the protocol taken out, to show that the checker sees what that step is for."""

"""The figures, in groups that are measured together; no group imports another."""

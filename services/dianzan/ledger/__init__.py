"""The Postgres edge: the only place that speaks to the database."""

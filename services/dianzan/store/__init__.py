"""The Redis/Valkey edge: the only place that speaks to the store."""

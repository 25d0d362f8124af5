"""What every process shares: settings, logs, metrics, background tasks, points of failure tests."""

"""Experiment tracking on a server, beside the run's own logs. Only the process that starts the run writes there."""

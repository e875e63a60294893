"""Experiment tracking on a server, in addition to the run's own logs. Only the process that starts the run writes to
it."""

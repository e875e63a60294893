"""The trainer: loop, engine, resume state, run folder, reports, tracking and Ray Train, for any task."""

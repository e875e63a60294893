"""From a model and a cloudy series to a gap-free one."""

"""One entry point for each job on a cluster: `python -m jobs.NAME --config F key=value`."""

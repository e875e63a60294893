"""Entry points of the jobs that run on a cluster: `python -m jobs.NAME --config F key=value`."""

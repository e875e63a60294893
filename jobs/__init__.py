"""The jobs, on this machine or on a cluster. `jobs.registry` declares them; `python -m jobs.NAME` runs one."""

"""Benchmarks, most of which `make bench` runs. Each prints a table and, as its last line, JSON."""

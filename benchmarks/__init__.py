"""What `make bench` runs; each benchmark prints a table and, last, one JSON line."""

"""Submitting jobs to a Ray cluster: packaging, addressing, following and reporting the outcome."""

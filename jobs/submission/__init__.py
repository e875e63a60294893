"""Sending a job to a Ray cluster: what is sent, to whom, and what becomes of it there."""

"""Clusters to run on: local, AWS, Kubernetes."""

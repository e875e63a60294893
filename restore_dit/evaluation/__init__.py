"""Metrics, protocols, baselines, tables and figures."""

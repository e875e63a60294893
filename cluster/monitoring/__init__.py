"""Watching a cluster: Prometheus' configuration and alert rules, a Grafana dashboard."""

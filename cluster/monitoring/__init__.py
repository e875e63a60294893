"""Monitoring a cluster: Prometheus configuration, alert rules, Grafana dashboard."""

"""Metrics of the service for Prometheus, with METRICS=on."""

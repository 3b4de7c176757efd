"""What the service costs: `python -m benchmarks --help`."""

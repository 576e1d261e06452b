"""What the shim costs, measured: ``python tests/benchmarks``."""

"""What the shim costs, measured: ``python tests/checks/benchmarks``."""

"""The pictures of the README and of docs/, drawn from real runs: ``python tests/checks/pictures``."""

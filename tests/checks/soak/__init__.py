"""Ten minutes of mixed streams through few clients, to find what only thousands show: ``python tests/checks/soak``."""

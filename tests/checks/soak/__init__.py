"""Ten minutes of mixed streams through few clients, for what only shows after thousands: ``python tests/checks/soak``."""

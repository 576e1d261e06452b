"""Ten minutes of mixed streams through few clients: ``python tests/soak`` looks for what only shows after thousands."""

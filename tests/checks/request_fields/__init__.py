"""Which fields of a request each release honours, and which it ignores: the table in docs/releases.md."""

"""The documents as people read them: rendered as GitHub does, in a browser, wide and narrow."""

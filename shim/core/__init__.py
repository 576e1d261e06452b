"""The repair itself: bytes in, bytes out. No I/O, no HTTP library, no openai."""

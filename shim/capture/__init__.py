"""Recordings of what a service sent, and their redaction."""

"""Foundry Local as a service: found where it runs, or started here."""

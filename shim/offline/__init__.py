"""A small model that is built from a package of the index, for a start without Foundry's catalog."""

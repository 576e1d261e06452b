"""The tables in docs/releases.md: what each release does to the official client, without and with the shim.

``python tests/checks/matrix`` prints it from live runs.
"""

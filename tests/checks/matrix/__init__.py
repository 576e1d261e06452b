"""The table in the README: what each release of Foundry Local does to the official client, without and with the shim.

``python tests/checks/matrix`` prints it from live runs.
"""

"""What goes wrong between a client and a service: the service killed, frozen, moved; the bytes cut, misframed, silent.

``python tests/checks/faults`` plays every fault under every major of the client and prints what a person gets.
"""

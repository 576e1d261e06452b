"""What a program sees of services other than Foundry Local: the same with the shim as without it."""

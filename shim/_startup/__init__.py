"""The folder that `foundry-shim run` puts in front of PYTHONPATH. Nothing but a `sitecustomize` may stand in it."""

"""A coverage-guided fuzzer on the core: ``python tests/fuzz`` mutates recorded streams and looks what must hold."""

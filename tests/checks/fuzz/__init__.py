"""A coverage-guided fuzzer on the core: ``python tests/checks/fuzz`` mutates recorded streams and checks invariants."""

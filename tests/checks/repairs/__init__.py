"""The sections of docs/repairs.md begin with the rules of the code."""

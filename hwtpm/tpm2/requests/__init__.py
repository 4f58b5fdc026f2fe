"""Part 3: one request and one response class per command, one module per chapter."""

"""Part 2: the structures, one module per chapter."""

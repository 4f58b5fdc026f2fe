"""Part 2: constants, handles, attributes and structures, one module per chapter."""

"""Part 3: what every command takes and gives, one module per chapter."""

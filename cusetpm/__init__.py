"""The vTPM system that a user runs: devices, rings, guests, daemon and command line."""

"""The owners of state; each saves and restores what it owns."""

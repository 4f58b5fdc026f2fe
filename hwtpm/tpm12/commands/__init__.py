"""Part 3: what each command does, one module per chapter."""

from __future__ import annotations

from importlib import import_module

_MODULES = (
    "certify",
    "context",
    "counter",
    "delegation",
    "endorsement",
    "hashing",
    "integrity",
    "nv",
    "opt_in",
    "ownership",
    "presence",
    "random",
    "sealing",
    "sessions",
    "signing",
    "startup",
    "storage",
    "testing",
    "ticks",
)


def load() -> None:
    """Have every handler registered."""
    for module in _MODULES:
        import_module(f"{__name__}.{module}")

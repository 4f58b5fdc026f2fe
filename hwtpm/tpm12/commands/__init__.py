"""Part 3: what each command does, one module per chapter."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def load() -> None:
    """Have every handler registered: those of all modules of this package."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")

"""Part 3: what each command does, one module per chapter."""

from __future__ import annotations

from importlib import import_module

_MODULES = (
    "asymmetric", "attached", "attestation", "audit", "capability", "clock", "context", "countdown",
    "create_loaded", "credential", "dictionary_attack", "duplication", "ecc_encryption", "ephemeral",
    "hashing", "hierarchy", "management", "nv", "object", "parent", "pcr", "persistent", "policy",
    "policy_authority", "policy_limits", "primary", "random", "sequence", "session", "signing", "startup",
    "symmetric", "testing",
)


def load() -> None:
    """Have every handler registered."""
    for module in _MODULES:
        import_module(f"{__name__}.{module}")

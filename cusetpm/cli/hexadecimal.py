"""Octets as people write them on a command line."""

from __future__ import annotations

import click


class Hex(click.ParamType[bytes]):
    """Hexadecimal digits, two for each octet; where *what* is given, that cannot be empty."""

    name = "hex"

    def __init__(self, what: str = "") -> None:
        self._what = what

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the octets."""
        if isinstance(value, bytes):
            return value
        try:
            octets = bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} is not hexadecimal", param, ctx)
        if self._what and not octets:
            self.fail(f"an empty {self._what}", param, ctx)
        return octets

"""Options of swtpm's that have options of their own: ``--ctrl type=unixio,path=/run/x,mode=0600``."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import click

Kind: TypeAlias = Callable[[str], Any]
"""Makes a value of what was written; raises ValueError with what it has to be."""


def text(value: str) -> str:
    """Return *value*."""
    return value


def number(value: str) -> int:
    """Return a number, such as that of a file descriptor."""
    if not value.isdecimal():
        raise ValueError("a number")
    return int(value)


def port(value: str) -> int:
    """Return a number that a TCP port can have."""
    if not value.isdecimal() or int(value) > 65535:
        raise ValueError("a port number")
    return int(value)


def flag(value: str) -> bool:
    """Return a truth value: true or 1; anything else is false."""
    return value.lower() in ("true", "1")


def mode(value: str) -> int:
    """Return permissions, which are octal."""
    try:
        found = int(value, 8)
    except ValueError:
        found = -1
    if not 0 <= found <= 0o777:
        raise ValueError("permissions as an octal number")
    return found


def user(value: str) -> int:
    """Return the number of a user, who may be named."""
    try:
        return int(value) if value.isdecimal() else pwd.getpwnam(value).pw_uid
    except KeyError:
        raise ValueError("a user") from None


def group(value: str) -> int:
    """Return the number of a group, which may be named."""
    try:
        return int(value) if value.isdecimal() else grp.getgrnam(value).gr_gid
    except KeyError:
        raise ValueError("a group") from None


class Suboptions(click.ParamType[dict[str, Any]]):
    """A list of NAME=VALUE, or NAME for a flag, separated by commas; *kinds* are the names there may be."""

    name = "options"

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = kinds

    def convert(self, value: str | dict[str, Any], param: click.Parameter | None,
                ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        found: dict[str, Any] = {}
        for part in value.split(","):
            name, equals, given = part.partition("=")
            kind = self._kinds.get(name)
            if kind is None:
                self.fail(f"{name!r} is none of {', '.join(self._kinds)}", param, ctx)
            if not equals and kind is not flag:
                self.fail(f"{name} needs a value", param, ctx)
            try:
                found[name] = kind(given) if equals else True
            except ValueError as error:
                self.fail(f"{name} has to be {error}, not {given!r}", param, ctx)
        return found

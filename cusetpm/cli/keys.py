"""Keys as swtpm's options give them: in a file, or made from a passphrase."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Final

import click

from cusetpm.cli.suboptions import Suboptions, flag, number, text

KEY: Final = Suboptions({"file": text, "fd": number, "pwdfile": text, "pwdfd": number, "format": text,
                         "mode": text, "kdf": text, "remove": flag})

_SIZES: Final = {"aes-cbc": 16, "aes-128-cbc": 16, "aes-256-cbc": 32}
_SALT: Final = b"swtpm"
_ROUNDS: Final = 1000
_KDFS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "pbkdf2": lambda phrase, size: hashlib.pbkdf2_hmac("sha512", phrase, _SALT, _ROUNDS, size),
    "sha512": lambda phrase, size: hashlib.sha512(phrase).digest()[:size],
}
_MAX_KEY: Final = 1 << 16  # octets of a key or passphrase in its file


def read(option: str, given: dict[str, Any] | None) -> bytes:
    """Return the key of *option*, 16 or 32 octets; empty without one.

    The file is removed if it should be.  UsageError for what cannot be a key; OSError from the file system.
    """
    if given is None:
        return b""
    size = _choose(option, "mode", given, _SIZES, "aes-cbc")
    sources = [name for name in ("file", "fd", "pwdfile", "pwdfd") if name in given]
    if len(sources) != 1:
        raise click.UsageError(f"{option}: needs one of file=, fd=, pwdfile= and pwdfd=")
    (source,) = sources
    where = given[source]
    try:
        with open(where, "rb", closefd=isinstance(where, str)) as file:
            content = file.read(_MAX_KEY)
    except OSError as error:
        error.filename = where if isinstance(where, str) else f"file descriptor {where}"
        raise
    found: bytes
    if source.startswith("pwd"):
        found = _choose(option, "kdf", given, _KDFS, "pbkdf2")(content, size)
    else:
        found = _choose(option, "format", given, {"hex": _from_hex, "binary": bytes}, "hex")(content)
        if len(found) != size:
            raise click.UsageError(f"{option}: the key in {source}={where} has not {size} octets")
    if given.get("remove") and isinstance(where, str):
        os.unlink(where)
    return found


def _choose(option: str, name: str, given: dict[str, Any], known: dict[str, Any], default: str) -> Any:
    value = given.get(name, default)
    if value not in known:
        raise click.UsageError(f"{option}: {name} has to be one of {', '.join(known)}, not {value!r}")
    return known[value]


def _from_hex(content: bytes) -> bytes:
    """Return the octets that *content* writes, up to the first space; empty if it writes none."""
    digits = content.split()[0] if content.split() else b""
    try:
        return bytes.fromhex(digits.decode("ascii").removeprefix("0x"))
    except ValueError:
        return b""

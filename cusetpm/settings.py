"""The manager's settings of a state directory: DIR/manager.toml.

The names are those of Xen's manager where it has them (xen-vtpmmgr(7)).  A directory without the file has the
defaults; what is not in the file has its default too.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, dataclass, fields
from hashlib import sha1
from pathlib import Path
from typing import Final

from hwtpm.errors import StateError
from hwtpm.slots import write_whole

NAME: Final = "manager.toml"
_MAX: Final = 1 << 16  # octets of the file
_CHOICES: Final = {
    "chip": ("2.0", "1.2"),
    "quote_pcrs": ("documented", "xen"),
    "extern_data": ("documented", "xen"),
    "administrator": ("first", "none"),
}
_DRIVERS: Final = ("device:", "swtpm:", "tis:")
_PCRS: Final = 24
_HASH: Final = re.compile(r"hash:[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class Settings:
    """What can be set; raises StateError, one line for people, that says what a value has to be."""

    chip: str = "2.0"
    """The chip's family."""
    driver: str = "model"
    """The way to the chip: our own, "device:PATH", "swtpm:PATH", "swtpm:HOST:PORT", or "tis:PATH", the memory
    with the registers of this machine's own."""
    locality: int = 2
    """Where the manager's commands to the chip come from, 0 to 4; a Linux device has only 0."""
    owner_auth: str = "well-known"
    """The owner's secret: "well-known", "hash:" and 40 hexadecimal digits, or "text:" and a password."""
    srk_auth: str = "well-known"
    """The secret of the storage root key, likewise."""
    srk_handle: int = 0
    """A TPM 2.0's persistent storage key to use, instead of a primary of the owner hierarchy; 0 for none."""
    pcrs: str = "0-7"
    """The PCRs that a new store's root key is sealed to."""
    auto_create: bool = True
    """A vTPM that nobody has made is made in group 0 when it first saves."""
    administrator: str = "first"
    """Which vTPM may manage: the first one that was made, or "none"."""
    quote_pcrs: str = "documented"
    """Whether quotes have PCRs 20 to 23 as vtpm_manager.h says, or, as "xen" does, leave them."""
    extern_data: str = "documented"
    """What quotes sign beside PCRs: as vtpm_manager.h says, or as the code of "xen" does."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind:
                raise StateError(f"{field.name} has to be {_KINDS[kind]}, not {value!r}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise StateError(f"{name} has to be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.driver != "model" and not (self.driver.startswith(_DRIVERS) and self.driver.split(":", 1)[1]):
            raise StateError(f"driver has to be model, device:PATH, swtpm:PATH, swtpm:HOST:PORT or tis:PATH, "
                             f"not {self.driver!r}")
        if not 0 <= self.locality <= 4:
            raise StateError(f"locality has to be 0 to 4, not {self.locality}")
        if self.driver.startswith("device:") and self.locality:
            raise StateError("locality has to be 0 with a device: its kernel has commands come from there")
        if self.srk_handle and self.srk_handle >> 24 != 0x81:
            raise StateError(f"srk_handle has to be a persistent handle, 0x81000000 to 0x81ffffff, not "
                             f"{self.srk_handle:#x}")
        pcr_bits(self.pcrs)
        auth(self.owner_auth)
        auth(self.srk_auth)

    def toml(self) -> str:
        """Return the file that sets what differs from the defaults; passwords are in it as hashes."""
        lines = [f"{name} = {_written(value)}" for name, value in asdict(self).items()
                 if value != getattr(Settings, name)]
        return "\n".join(lines) + "\n" if lines else ""


_KINDS: Final = {str: "text", int: "a number", bool: "true or false"}


def read(directory: Path) -> Settings:
    """Return the settings of the state directory; StateError names the file, OSError as it comes."""
    path = directory / NAME
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX + 1)
    except FileNotFoundError:
        return Settings()
    if len(text) > _MAX:
        raise StateError(f"{path}: too long")
    try:
        found = tomllib.loads(text.decode())
    except ValueError as error:
        raise StateError(f"{path}: {error}") from None
    if strange := sorted(found.keys() - {field.name for field in fields(Settings)}):
        raise StateError(f"{path}: {strange[0]!r} is not a setting")
    try:
        return Settings(**found)
    except StateError as error:
        raise StateError(f"{path}: {error}") from None


def write(directory: Path, settings: Settings) -> None:
    """*directory* has these settings, durably; the file is for its owner only."""
    write_whole(directory / NAME, settings.toml().encode())


def auth(spec: str) -> bytes:
    """Return the 20 octets that an AUTHSPEC of xen-vtpmmgr(7) stands for; StateError if it is none."""
    if spec == "well-known":
        return bytes(20)
    if _HASH.fullmatch(spec):
        return bytes.fromhex(spec.removeprefix("hash:"))
    if spec.startswith("text:"):
        return sha1(spec.removeprefix("text:").encode(), usedforsecurity=False).digest()
    raise StateError("a secret has to be well-known, hash: and 40 hexadecimal digits, or text: and a "
                     "password")


def pcr_bits(spec: str) -> bytes:
    """Return the bit map, 3 octets, of a list such as "0-7,12"; StateError if it is none.

    "all" and "none" stand for all PCRs and none.
    """
    if spec in ("all", "none"):
        return bytes([0xFF if spec == "all" else 0] * (_PCRS // 8))
    bits = 0
    for part in spec.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [int(end) if end.strip().isdecimal() else _PCRS for end in (first, last if dash else first)]
        if not ends[0] <= ends[1] < _PCRS:
            raise StateError(f"PCRs have to be a list such as 0-7,12 of numbers up to {_PCRS - 1}, not "
                             f"{spec!r}")
        for index in range(ends[0], ends[1] + 1):
            bits |= 1 << index
    return bits.to_bytes(_PCRS // 8, "little")


def pcr_spec(bits: bytes) -> str:
    """Return the list that `pcr_bits` gives the bit map for."""
    numbers = [8 * i + bit for i, octet in enumerate(bits) for bit in range(8) if octet >> bit & 1]
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{p[0]}-{p[-1]}" if p[1:] else f"{p[0]}" for p in parts) or "none"


def _written(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"0x{value:x}" if value > 9 else str(value)
    if value.startswith("text:"):
        value = f"hash:{auth(value).hex()}"
    quoted = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{quoted}"'

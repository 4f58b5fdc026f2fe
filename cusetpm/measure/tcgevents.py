"""What events of the firmware's log mean, and which of their digests can be checked.

TCG PC Client Platform Firmware Profile (version 1.05), 10.2 and 10.4.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from uuid import UUID

from cusetpm.measure import tcglog
from cusetpm.measure.pcr import bank_name
from cusetpm.measure.tcglog import EV_EFI_HCRTM_EVENT, EV_NO_ACTION, SPEC_ID_03, STARTUP_LOCALITY, Event
from hwtpm.crypto import hashes

EV_SEPARATOR: Final = 0x00000004
EV_ACTION: Final = 0x00000005
EV_S_CRTM_VERSION: Final = 0x00000008
EV_OMIT_BOOT_DEVICE_EVENTS: Final = 0x00000012
EV_EFI_VARIABLE_DRIVER_CONFIG: Final = 0x80000001
EV_EFI_VARIABLE_BOOT: Final = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_BOOT_SERVICES_DRIVER: Final = 0x80000004
EV_EFI_RUNTIME_SERVICES_DRIVER: Final = 0x80000005
EV_EFI_GPT_EVENT: Final = 0x80000006
EV_EFI_ACTION: Final = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB: Final = 0x80000008
EV_EFI_PLATFORM_FIRMWARE_BLOB2: Final = 0x8000000A
EV_EFI_VARIABLE_BOOT2: Final = 0x8000000C
EV_EFI_VARIABLE_AUTHORITY: Final = 0x800000E0

NAMES: Final = {
    0x00000000: "EV_PREBOOT_CERT",
    0x00000001: "EV_POST_CODE",
    0x00000002: "EV_UNUSED",
    EV_NO_ACTION: "EV_NO_ACTION",
    EV_SEPARATOR: "EV_SEPARATOR",
    EV_ACTION: "EV_ACTION",
    0x00000006: "EV_EVENT_TAG",
    0x00000007: "EV_S_CRTM_CONTENTS",
    EV_S_CRTM_VERSION: "EV_S_CRTM_VERSION",
    0x00000009: "EV_CPU_MICROCODE",
    0x0000000A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0000000B: "EV_TABLE_OF_DEVICES",
    0x0000000C: "EV_COMPACT_HASH",
    0x0000000D: "EV_IPL",
    0x0000000E: "EV_IPL_PARTITION_DATA",
    0x0000000F: "EV_NONHOST_CODE",
    0x00000010: "EV_NONHOST_CONFIG",
    0x00000011: "EV_NONHOST_INFO",
    EV_OMIT_BOOT_DEVICE_EVENTS: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x00000013: "EV_POST_CODE2",
    0x80000000: "EV_EFI_EVENT_BASE",
    EV_EFI_VARIABLE_DRIVER_CONFIG: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    EV_EFI_VARIABLE_BOOT: "EV_EFI_VARIABLE_BOOT",
    EV_EFI_BOOT_SERVICES_APPLICATION: "EV_EFI_BOOT_SERVICES_APPLICATION",
    EV_EFI_BOOT_SERVICES_DRIVER: "EV_EFI_BOOT_SERVICES_DRIVER",
    EV_EFI_RUNTIME_SERVICES_DRIVER: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    EV_EFI_GPT_EVENT: "EV_EFI_GPT_EVENT",
    EV_EFI_ACTION: "EV_EFI_ACTION",
    EV_EFI_PLATFORM_FIRMWARE_BLOB: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    EV_EFI_PLATFORM_FIRMWARE_BLOB2: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    EV_EFI_VARIABLE_BOOT2: "EV_EFI_VARIABLE_BOOT2",
    0x8000000D: "EV_EFI_GPT_EVENT2",
    EV_EFI_HCRTM_EVENT: "EV_EFI_HCRTM_EVENT",
    EV_EFI_VARIABLE_AUTHORITY: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
    0x800000E3: "EV_EFI_SPDM_DEVICE_POLICY",
    0x800000E4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

_VARIABLES: Final = frozenset({EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2,
                               EV_EFI_VARIABLE_AUTHORITY})
_IMAGES: Final = frozenset({EV_EFI_BOOT_SERVICES_APPLICATION, EV_EFI_BOOT_SERVICES_DRIVER,
                            EV_EFI_RUNTIME_SERVICES_DRIVER})
_ACTIONS: Final = frozenset({EV_ACTION, EV_EFI_ACTION, EV_OMIT_BOOT_DEVICE_EVENTS})
_WHOLE: Final = frozenset({EV_S_CRTM_VERSION, EV_EFI_GPT_EVENT}) | _VARIABLES
_SEPARATORS: Final = frozenset({bytes(4), b"\xff\xff\xff\xff"})
_ERROR: Final = b"\x01\0\0\0"


def name(kind: int) -> str:
    """Return the specification's name of an event type, or its number."""
    return NAMES.get(kind, f"0x{kind:08x}")


def fault(event: Event) -> str:
    """Return which digest does not fit the data; empty if all fit that can be checked.

    Most digests are of something that is not in the log: code, tables, whatever the data describes.
    """
    preimages = _preimages(event)
    if not preimages:
        return ""
    for alg, digest in event.digests.items():
        if alg not in hashes.ALGORITHMS:
            continue
        made = [hashes.digest(alg, preimage) for preimage in preimages]
        if digest not in made:
            return f"its {bank_name(alg)} digest is {digest.hex()}, and its data have {made[0].hex()}"
    return ""


def _preimages(event: Event) -> list[bytes]:
    """Return what the digests may be of; nothing when the event type leaves that open.

    Where firmware in the field differs from the text, both are allowed.
    """
    if event.type == EV_SEPARATOR:
        # After an error the data tells about it, and the digest is of a fixed value (10.4.1).
        return [event.data] if event.data in _SEPARATORS else [event.data, _ERROR]
    if event.type in _ACTIONS:
        return [event.data, event.data.rstrip(b"\0")]
    if event.type == EV_EFI_VARIABLE_AUTHORITY and _variable(event.data) is None:
        return []  # old versions of shim log another number of octets than they measure
    if event.type in _WHOLE:
        variable = _variable(event.data) if event.type == EV_EFI_VARIABLE_BOOT else None
        return [event.data] + ([variable.data] if variable is not None else [])
    return []


# What people read

class _Variable(NamedTuple):
    """UEFI_VARIABLE_DATA (10.2.6)."""

    vendor: UUID
    name: str
    data: bytes


def _variable(data: bytes) -> _Variable | None:
    """Return what *data* says of a variable; None when it is no UEFI_VARIABLE_DATA."""
    if len(data) < 32:
        return None
    characters, size = struct.unpack_from("<QQ", data, 16)
    end = 32 + 2 * characters
    if end + size != len(data):
        return None
    return _Variable(UUID(bytes_le=data[:16]), data[32:end].decode("utf-16-le", "replace"), data[end:])


def describe(event: Event) -> str:
    """Return in one line what the data of *event* says; empty when that is nothing for people."""
    data = event.data
    if event.type == EV_NO_ACTION:
        return _no_action(data)
    if event.type == EV_SEPARATOR:
        return "the end of the firmware's measurements" if data in _SEPARATORS else f"an error: {_text(data)}"
    if event.type in _VARIABLES and (variable := _variable(data)) is not None:
        return f"{_printable(variable.name)}-{variable.vendor} = {_short(variable.data)}"
    if event.type in _IMAGES and len(data) >= 32:
        size, file = struct.unpack_from("<Q", data, 8)[0], _file_path(data[32:])
        return f"an image of {size} octets" + (f", {file}" if file else "")
    if event.type == EV_EFI_PLATFORM_FIRMWARE_BLOB and len(data) == 16:
        base, size = struct.unpack("<QQ", data)
        return f"firmware at 0x{base:x}, {size} octets"
    return _text(data)


def _no_action(data: bytes) -> str:
    if data.startswith(STARTUP_LOCALITY):
        return f"TPM2_Startup came from locality {data[len(STARTUP_LOCALITY):].hex()}"
    if data.startswith(SPEC_ID_03):
        spec_id = tcglog.parse_spec_id(data)
        return (f"Spec ID Event03, version {'.'.join(map(str, spec_id.version))}, "
                f"{', '.join(map(bank_name, spec_id.algorithms))}")
    return _text(data)


def _file_path(path: bytes) -> str:
    """Return the file that a UEFI device path ends with; empty if it does not (UEFI 2.10, 10.3.5.4)."""
    at = 0
    found = ""
    while at + 4 <= len(path):
        kind, subtype, size = struct.unpack_from("<BBH", path, at)
        if size < 4 or at + size > len(path):
            break
        if (kind, subtype) == (4, 4):
            found += path[at + 4 : at + size].decode("utf-16-le", "replace").rstrip("\0")
        at += size
    return _printable(found)


def _text(data: bytes) -> str:
    """Return *data* as text if it is, else the beginning of it in hexadecimal."""
    # UTF-16 with its high octets zero, or what is ASCII already.
    narrow = data[::2] if len(data) % 2 == 0 and not any(data[1::2]) else data
    stripped = narrow.rstrip(b"\0")
    if stripped.isascii() and (text := stripped.decode()).isprintable() and (text or not any(data)):
        return text
    return _short(data)


def _short(data: bytes) -> str:
    return data.hex() if len(data) <= 32 else f"{data[:32].hex()}... ({len(data)} octets)"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text.rstrip("\0"))

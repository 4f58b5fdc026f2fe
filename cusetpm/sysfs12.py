"""The files that only a TPM 1.2 has in sysfs, in the formats of Linux' drivers/char/tpm/tpm-sysfs.c.

Each is made of what the TPM at the other end of a client says; TpmError and ProtocolError mean that there is
none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hwtpm.client12 import Client
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.endorsement import ReadPubek
from hwtpm.tpm12.requests.integrity import PcrRead
from hwtpm.tpm12.types import constants as c

# Where the kernel finds flags in the answer to TPM_GetCapability: they follow the structure's tag.
_DISABLE, _DEACTIVATED, _STCLEAR_DEACTIVATED = 2, 4, 2
_VERSION = slice(2, 6)  # in a TPM_CAP_VERSION_INFO: behind its tag


def _capability(tpm: Client, area: int, which: int | None = None) -> bytes:
    return tpm.run(GetCapability(area, b"" if which is None else which.to_bytes(4, "big"))).resp


def _numbers(tpm: Client, which: int) -> list[int]:
    data = _capability(tpm, c.TPM_CAP_PROPERTY, which)
    return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]


def _pubek(tpm: Client) -> str:
    key = tpm.run(ReadPubek(bytes(20))).pub_endorsement_key
    kind, modulus = key.algorithm_parms, key.pub_key
    rows = "".join(f"{modulus[at : at + 16].hex(' ')}\n" for at in range(0, len(modulus), 16))
    return (f"Algorithm: {kind.algorithm_id.to_bytes(4, 'big').hex(' ')}\n"
            f"Encscheme: {kind.enc_scheme.to_bytes(2, 'big').hex(' ')}\n"
            f"Sigscheme: {kind.sig_scheme.to_bytes(2, 'big').hex(' ')}\n"
            f"Parameters: {kind.parms.hex(' ')}\n"
            f"Modulus length: {len(modulus)}\nModulus:\n{rows}")


def _pcrs(tpm: Client) -> str:
    (count,) = _numbers(tpm, c.TPM_CAP_PROP_PCR)
    values = [tpm.run(PcrRead(index)).out_digest for index in range(count)]
    return "".join(f"PCR-{index:02}: {value.hex(' ').upper()} \n" for index, value in enumerate(values))


def _enabled(tpm: Client) -> str:
    return f"{1 - _capability(tpm, c.TPM_CAP_FLAG, c.TPM_CAP_FLAG_PERMANENT)[_DISABLE]}\n"


def _active(tpm: Client) -> str:
    return f"{1 - _capability(tpm, c.TPM_CAP_FLAG, c.TPM_CAP_FLAG_PERMANENT)[_DEACTIVATED]}\n"


def _temp_deactivated(tpm: Client) -> str:
    return f"{_capability(tpm, c.TPM_CAP_FLAG, c.TPM_CAP_FLAG_VOLATILE)[_STCLEAR_DEACTIVATED]}\n"


def _owned(tpm: Client) -> str:
    return f"{_capability(tpm, c.TPM_CAP_PROPERTY, c.TPM_CAP_PROP_OWNER)[0]}\n"


def _caps(tpm: Client) -> str:
    (manufacturer,) = _numbers(tpm, c.TPM_CAP_PROP_MANUFACTURER)
    major, minor, rev_major, rev_minor = _capability(tpm, c.TPM_CAP_VERSION_VAL)[_VERSION]
    return (f"Manufacturer: 0x{manufacturer:x}\nTCG version: {major}.{minor}\n"
            f"Firmware version: {rev_major}.{rev_minor}\n")


def _durations(tpm: Client) -> str:
    return "{} {} {} [original]\n".format(*_numbers(tpm, c.TPM_CAP_PROP_DURATION))


def _timeouts(tpm: Client) -> str:
    return "{} {} {} {} [original]\n".format(*_numbers(tpm, c.TPM_CAP_PROP_TIS_TIMEOUT))


FILES: Final[dict[str, Callable[[Client], str]]] = {
    "pubek": _pubek, "pcrs": _pcrs, "enabled": _enabled, "active": _active, "owned": _owned,
    "temp_deactivated": _temp_deactivated, "caps": _caps, "durations": _durations, "timeouts": _timeouts,
}
"""The content of each file, by its name; times are in microseconds."""

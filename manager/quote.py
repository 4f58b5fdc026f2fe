"""What the manager's quotes say: the PCRs 20 to 23, and the external data that is signed beside them.

Xen's vtpm_manager.h describes both, and Xen's code does otherwise; each is available here.

- PCRs.  As documented, they are reset and extended just before a quote, so that a quote over them tells whose
  vTPM this is: 20 with the SAA's key, 21 with the configuration list, 22 with the hash of the vTPM's kernel,
  23 with the UUIDs of group and vTPM.  Xen's code leaves them as they are when it quotes.
- External data of GET_QUOTE.  As documented: H(flags || data), and with flags H(flags || data || H(the
  requested hashes)), the flags big-endian as on the wire.  Xen's code: H(flags || data || the requested
  hashes), the flags as x86 has them in memory, and the group's policy hashed together with its SAA's key.
  What GROUP_REGISTER and the like sign is the hash that the header names; in Xen's code H(four zeros || it).

H is SHA-1 with a TPM 1.2 and SHA-256 with a TPM 2.0, where shorter values (UUIDs, hashes of kernels) are
filled up with zeros to the size of a digest, as Xen does with UUIDs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hwtpm.crypto import hashes, ids
from manager.requests import (
    VTPM_QUOTE_FLAGS_GROUP_INFO,
    VTPM_QUOTE_FLAGS_GROUP_PUBKEY,
    VTPM_QUOTE_FLAGS_HASH_UUID,
    VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS,
)

ALL_FLAGS: Final = (VTPM_QUOTE_FLAGS_HASH_UUID | VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS
                    | VTPM_QUOTE_FLAGS_GROUP_INFO | VTPM_QUOTE_FLAGS_GROUP_PUBKEY)
REGISTERS, SHOWS, RECOVERS = b"REGR", b"SHOW", b"RCVR"
"""What the external data of a group's quotes begin with."""

_ALGS: Final = {"1.2": ids.SHA1, "2.0": ids.SHA256}
_NO_FLAGS: Final = bytes(4)


class Meaning(NamedTuple):
    """Which of the two meanings quotes have; see above."""

    documented_pcrs: bool = True
    documented_extern: bool = True


MEANING_XEN: Final = Meaning(documented_pcrs=False, documented_extern=False)


class Subject(NamedTuple):
    """What a quote is about: a group, and one of its vTPMs unless *vtpm* is None.

    *group* and *vtpm* are UUIDs, *saa* a modulus, *cfg_list* the octets of a TPM_MGR_CFG_LIST, *kernel* the
    20 octets that stand for what the vTPM runs.
    """

    group: bytes
    saa: bytes
    cfg_list: bytes
    vtpm: bytes | None = None
    kernel: bytes = bytes(20)


def digest(family: str, *parts: bytes) -> bytes:
    """Return the digest that a chip of that family works with."""
    return hashes.digest(_ALGS[family], *parts)


def digest_size(family: str) -> int:
    """Return its size in octets."""
    return hashes.size(_ALGS[family])


def pcr_digests(family: str, subject: Subject) -> dict[int, list[bytes]]:
    """Return what the PCRs 20 to 23 are extended with, in order."""
    size = digest_size(family)
    found = {20: [digest(family, subject.saa)], 21: [digest(family, subject.cfg_list)],
             23: [subject.group.ljust(size, b"\0")]}
    if subject.vtpm is not None:
        found[22] = [subject.kernel.ljust(size, b"\0")]
        found[23].append(subject.vtpm.ljust(size, b"\0"))
    return found


def pcr_values(family: str, subject: Subject) -> dict[int, set[bytes]]:
    """Return the values that the PCRs 20 to 23 can have then.

    A TPM 1.2 resets 20 to 22 to ones unless the machine had a dynamic launch, which resets them to zeros.
    """
    size = digest_size(family)
    digests = pcr_digests(family, subject)
    found: dict[int, set[bytes]] = {}
    for number in range(20, 24):
        found[number] = set()
        for start in (b"\0", b"\xff") if family == "1.2" and number != 23 else (b"\0",):
            value = start * size
            for each in digests.get(number, ()):
                value = digest(family, value, each)
            found[number].add(value)
    return found


def requested(family: str, flags: int, subject: Subject, meaning: Meaning) -> list[bytes]:
    """Return the hashes that the VTPM_QUOTE_FLAGS_ of GET_QUOTE ask for, in order."""
    policy = (subject.cfg_list,) if meaning.documented_extern else (subject.saa, subject.cfg_list)
    vtpm = subject.vtpm or b""
    return [digest(family, *parts) for flag, parts in (
        (VTPM_QUOTE_FLAGS_HASH_UUID, (vtpm,)),
        (VTPM_QUOTE_FLAGS_VTPM_MEASUREMENTS, (subject.kernel,)),
        (VTPM_QUOTE_FLAGS_GROUP_INFO, policy),
        (VTPM_QUOTE_FLAGS_GROUP_PUBKEY, (subject.saa,))) if flags & flag]


def extern_data(family: str, flags: int, data: bytes, found: list[bytes], meaning: Meaning) -> bytes:
    """Return the external data of GET_QUOTE for the *found* hashes that were requested."""
    if not meaning.documented_extern:
        return digest(family, flags.to_bytes(4, "little"), data, *found)
    inner = digest(family, *found) if flags else b""
    return digest(family, flags.to_bytes(4, "big"), data, inner)


def group_extern(family: str, meaning: Meaning, *parts: bytes) -> bytes:
    """Return the external data of a group's quote, of which *parts* begin with REGISTERS or one like it."""
    found = digest(family, *parts)
    return found if meaning.documented_extern else digest(family, _NO_FLAGS, found)

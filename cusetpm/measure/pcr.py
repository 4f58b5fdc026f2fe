"""PCRs by value: names of banks, extending, and what a list has to lead to.

A PCR of one bank is a pair (algorithm, index), written `sha256:10`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

from hwtpm.crypto import hashes, ids

Pcr = tuple[int, int]
"""The TPM_ALG_ID of the bank, and the index."""
Values = Mapping[Pcr, bytes]

COUNT: Final = 24
"""How many PCRs a PC's TPM has (PC Client Platform TPM Profile, 4.6)."""
DYNAMIC: Final = range(17, 23)
"""The PCRs that are all ones until a dynamic launch (the same, table 6)."""

_NAMES: Final = {
    ids.SHA1: ("sha1",),
    ids.SHA256: ("sha256",),
    ids.SHA384: ("sha384",),
    ids.SHA512: ("sha512",),
    ids.SM3_256: ("sm3_256", "sm3"),
    ids.SHA3_256: ("sha3_256", "sha3-256"),
    ids.SHA3_384: ("sha3_384", "sha3-384"),
    ids.SHA3_512: ("sha3_512", "sha3-512"),
}
_BY_NAME: Final = {name: alg for alg, names in _NAMES.items() for name in names}


def bank_name(alg: int) -> str:
    """Return the name that tpm2-tools use for *alg*, or its number."""
    return _NAMES.get(alg, (f"0x{alg:04x}",))[0]


def bank_of(name: str) -> int:
    """Return the algorithm that tpm2-tools or the kernel call *name*; ValueError when there is none."""
    try:
        return _BY_NAME[name.lower()]
    except KeyError:
        raise ValueError(f"no hash algorithm {name!r}") from None


def show(pcr: Pcr) -> str:
    """Return *pcr* as people write it."""
    return f"{bank_name(pcr[0])}:{pcr[1]}"


def show_all(pcrs: Iterable[Pcr]) -> str:
    """Return *pcrs* in short: `sha1:0-7,10 sha256:10`."""
    banks: dict[int, list[list[int]]] = {}
    for alg, index in sorted(pcrs):
        runs = banks.setdefault(alg, [])
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return " ".join(f"{bank_name(alg)}:{','.join(map(_show_run, runs))}" for alg, runs in banks.items())


def _show_run(run: list[int]) -> str:
    return f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}"


def initial(pcr: Pcr) -> bytes:
    """Return the value after a reset of the TPM."""
    alg, index = pcr
    return (b"\xff" if index in DYNAMIC else b"\0") * hashes.size(alg)


def extended(alg: int, value: bytes, digest: bytes) -> bytes:
    """Return what a PCR of *value* is after an extend with *digest* (Part 1, "Extend of a PCR")."""
    return hashes.digest(alg, value, digest)


def parse_value(text: str) -> tuple[Pcr, bytes]:
    """Return the PCR and the value that *text* gives: `sha256:10=HEX`; ValueError says what is wrong."""
    name, equals, value = text.partition("=")
    bank, colon, index = name.partition(":")
    if not equals or not colon:
        raise ValueError(f"{text!r} is not BANK:INDEX=HEX")
    alg = bank_of(bank)
    if not index.isdecimal() or int(index) >= COUNT:
        raise ValueError(f"no PCR {index!r}")
    try:
        octets = bytes.fromhex(value.removeprefix("0x").removeprefix("0X"))
    except ValueError:
        raise ValueError(f"{value!r} is not hexadecimal") from None
    if len(octets) != hashes.size(alg):
        raise ValueError(f"{len(octets)} octets for a PCR of {hashes.size(alg)} in {text!r}")
    return (alg, int(index)), octets


def parse_indices(text: str) -> frozenset[int]:
    """Return the PCRs that *text* lists, as `0-7,9`; ValueError says what is wrong."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part!r} is neither a PCR nor a range of PCRs")
        low, high = int(first), int(last or first)
        if not low <= high < COUNT:
            raise ValueError(f"no PCR {part!r}")
        found.update(range(low, high + 1))
    return frozenset(found)


class Target(Protocol):
    """What the PCRs of a TPM are known to be."""

    @property
    def what(self) -> str:
        """What is compared with, for messages."""
        ...

    def known(self) -> Values:
        """Return the values that are known one by one."""
        ...

    def groups(self, indices: Iterable[int]) -> list[list[Pcr]]:
        """Return the PCRs of *indices* that are known, in sets of which each can be compared by itself."""
        ...

    def wrong(self, values: Values) -> list[Pcr]:
        """Return the PCRs of *values* that are known to be different; all where only all can be compared."""
        ...


class Given(NamedTuple):
    """PCRs whose values are known: read from a TPM, or given."""

    values: Values
    what: str

    def known(self) -> Values:
        return self.values

    def groups(self, indices: Iterable[int]) -> list[list[Pcr]]:
        wanted = set(indices)
        banks: dict[int, list[Pcr]] = {}
        for pcr in sorted(self.values):
            if pcr[1] in wanted:
                banks.setdefault(pcr[0], []).append(pcr)
        return list(banks.values())

    def wrong(self, values: Values) -> list[Pcr]:
        return [pcr for pcr, value in values.items() if self.values.get(pcr, value) != value]

"""Platform configuration registers (Part 1, 9; the PC Client specification for who may extend and reset)."""

from __future__ import annotations

from hashlib import sha1
from struct import Struct
from typing import Annotated, ClassVar, Final

from hwtpm.tpm12.profile import NUM_PCR
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE, UINT8, ZERO_DIGEST
from hwtpm.wire import Fixed, Wire, decode, encode

_FORMAT: Final = 1
_ONES: Final = b"\xff" * TPM_DIGEST_SIZE
_pack_u16, _pack_u32 = Struct(">H").pack, Struct(">I").pack

_ANY: Final = 0x1F
EXTEND_LOCALITIES: Final = (*(_ANY,) * 17, 0x1C, 0x1C, 0x0C, 0x0E, 0x04, 0x04, _ANY)
"""For each PCR the localities that may extend it, bit n for locality n."""
RESET_LOCALITIES: Final = (*(0,) * 16, _ANY, 0x10, 0x10, 0x10, 0x14, 0x04, 0x04, _ANY)
"""For each PCR the localities that may reset it; none for those that only TPM_Startup resets."""

_DYNAMIC: Final = range(17, 23)  # what a dynamic launch measures, and its system


class _Volatile(Wire):
    version: UINT8
    values: Annotated[bytes, Fixed(NUM_PCR * TPM_DIGEST_SIZE)]


class Pcrs(Owner):
    """`values` holds one SHA-1 digest per PCR; `initial` what the platform has some begin with."""

    TAG: ClassVar[bytes] = b"pcrs"

    def __init__(self) -> None:
        super().__init__()
        self.values = [ZERO_DIGEST] * NUM_PCR
        self.initial: dict[int, bytes] = {}

    def extend(self, number: int, digest: bytes) -> bytes:
        """PCR *number* has taken up *digest*; its new value is returned."""
        value = self.values[number] = sha1(self.values[number] + digest).digest()
        return value

    def reset(self, number: int, *, tos_present: bool) -> None:
        """PCR *number* has the value that TPM_PCR_Reset gives it (Part 1, 9.2)."""
        self.values[number] = _ONES if number in _DYNAMIC and not tos_present else ZERO_DIGEST

    def composite(self, selection: bytes) -> bytes:
        """Return the encoded TPM_PCR_COMPOSITE of the PCRs in bit map *selection* (Part 2, 8.2)."""
        values = b"".join(self.values[i] for i in selected(selection))
        return _pack_u16(len(selection)) + selection + _pack_u32(len(values)) + values

    def digest(self, selection: bytes) -> bytes:
        """Return the TPM_COMPOSITE_HASH of the PCRs in bit map *selection*: zeros for none (Part 2, 5.4)."""
        return sha1(self.composite(selection)).digest() if any(selection) else ZERO_DIGEST

    def startup(self, start: Start) -> None:
        """PCRs have their first values; of a saved state only those stay that no TPM_PCR_Reset resets."""
        for number in range(NUM_PCR):
            if start is not Start.STATE or RESET_LOCALITIES[number]:
                self.reset(number, tos_present=False)
        if start is not Start.STATE:
            for number, value in self.initial.items():
                self.values[number] = value

    def save_volatile(self) -> bytes:
        """Return version and the values."""
        return encode(_Volatile(_FORMAT, b"".join(self.values)))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"PCRs of version {found.version}")
        size = TPM_DIGEST_SIZE
        self.values = [found.values[i * size : (i + 1) * size] for i in range(NUM_PCR)]


def selected(selection: bytes) -> list[int]:
    """Return the numbers of the PCRs in bit map *selection*, in order."""
    bits = int.from_bytes(selection, "little")
    return [i for i in range(bits.bit_length()) if bits >> i & 1]

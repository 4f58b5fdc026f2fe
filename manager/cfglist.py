"""TPM_MGR_CFG_LIST, the configurations that an SAA has signed for its group (Xen vtpm_manager.h).

A platform's configuration is one hash: with a TPM 1.2 the TPM_COMPOSITE_HASH, 20 octets, over the selection
of PCRs and their values; with a TPM 2.0 the 32-octet SHA-256 digest of a policy that is one TPM2_PolicyPCR,
which is over both, too.  The digest of the values alone would not do: whoever may extend a PCR that can be
reset could have it pass for another one, since nobody signs the selections that come along with a list.
"""

from __future__ import annotations

from struct import Struct
from typing import Annotated, Final, NamedTuple

from hwtpm.crypto import hashes, ids
from hwtpm.errors import TpmError
from hwtpm.tpm2.types.constants import TPM_ALG_SHA256, TPM_CC_PolicyPCR
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER, TPM_SIZE
from hwtpm.wire import Fixed, Int, ListOf, Wire, encode, reader

NR_SEALS_PER_GROUP: Final = 5
NR_KERNS_PER_GROUP: Final = 16
"""How much a group holds (Xen vtpm_disk.h)."""

PLATFORM_SIZE: Final = {"1.2": 20, "2.0": 32}
"""Octets of a platform's configuration, by the family of the chip."""
SELECTION_SIZE: Final = 3
"""Octets of a bit map of the 24 PCRs of a PC."""

_HASH = Annotated[bytes, Fixed(20)]
_HASH20 = Annotated[bytes, Fixed(32)]
_ANY: Final = 0xFFFFFFFF  # The octets end before a list is too long to be read.
_ONE = Struct(">I").pack(1)


class TPM_MGR_CFG_LIST(Wire):
    """The list with a TPM 1.2."""

    sequence: Annotated[int, Int("Q")]
    plt_cfgs: Annotated[list[_HASH], ListOf(_ANY)]
    kern_list: Annotated[list[_HASH], ListOf(_ANY)]


class TPM_MGR_CFG_LIST_20(Wire):
    """The list with a TPM 2.0."""

    sequence: Annotated[int, Int("Q")]
    plt_cfgs: Annotated[list[_HASH20], ListOf(_ANY)]
    kern_list: Annotated[list[_HASH], ListOf(_ANY)]


CFG_LISTS: Final[dict[str, type[TPM_MGR_CFG_LIST | TPM_MGR_CFG_LIST_20]]] = {
    "1.2": TPM_MGR_CFG_LIST, "2.0": TPM_MGR_CFG_LIST_20}


class CfgList(NamedTuple):
    """A configuration list; `octets` of it are what the SAA signs."""

    sequence: int = 0
    platforms: tuple[bytes, ...] = ()
    kernels: tuple[bytes, ...] = ()

    def octets(self, family: str) -> bytes:
        """Return the TPM_MGR_CFG_LIST."""
        return encode(CFG_LISTS[family](self.sequence, list(self.platforms), list(self.kernels)))


class Update(NamedTuple):
    """A configuration list with the selection of PCRs, a bit map, of each of its platforms."""

    cfg_list: CfgList
    selections: tuple[bytes, ...]


def read_cfg_list(octets: bytes, family: str) -> tuple[CfgList, int]:
    """Return the list at the beginning of *octets* and its size.

    Raises TpmError: TPM_BAD_PARAMETER where the octets run out, TPM_SIZE for more than a group holds.
    """
    try:
        found, end = reader(CFG_LISTS[family])(octets, 0)
    except TpmError:
        raise TpmError(TPM_BAD_PARAMETER) from None
    if len(found.plt_cfgs) > NR_SEALS_PER_GROUP or len(found.kern_list) > NR_KERNS_PER_GROUP:
        raise TpmError(TPM_SIZE)
    return CfgList(found.sequence, tuple(found.plt_cfgs), tuple(found.kern_list)), end


def read_update(octets: bytes, family: str) -> Update:
    """Return what GROUP_UPDATE carries behind the signature; raises as `read_cfg_list` does."""
    cfg_list, at = read_cfg_list(octets, family)
    selections = []
    for _ in cfg_list.platforms:
        end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
        if end > len(octets) or at + 2 > len(octets):
            raise TpmError(TPM_BAD_PARAMETER)
        selections.append(selection(octets[at + 2 : end]))
        at = end
    if at != len(octets):
        raise TpmError(TPM_BAD_PARAMETER)
    return Update(cfg_list, tuple(selections))


def update_octets(update: Update, family: str) -> bytes:
    """Return what GROUP_UPDATE carries behind the signature."""
    return update.cfg_list.octets(family) + b"".join(
        len(bits).to_bytes(2, "big") + bits for bits in update.selections)


def selection(bits: bytes) -> bytes:
    """Return the bit map of PCRs with three octets; TPM_BAD_PARAMETER for a PCR beyond the 24th."""
    if bits[SELECTION_SIZE:].strip(b"\0") or len(bits) > SELECTION_SIZE + 1:
        raise TpmError(TPM_BAD_PARAMETER)
    return bits[:SELECTION_SIZE].ljust(SELECTION_SIZE, b"\0")


def selected(bits: bytes) -> list[int]:
    """Return the numbers of the PCRs in the bit map, in order."""
    return [8 * i + bit for i, octet in enumerate(bits) for bit in range(8) if octet >> bit & 1]


def platform_hash(family: str, bits: bytes, values: bytes) -> bytes:
    """Return the configuration in which the selected PCRs have *values*, concatenated in order.

    The values are SHA-1's with a TPM 1.2, and those of the SHA-256 bank with a TPM 2.0.
    """
    if family == "1.2":  # its structures are imported for that only
        from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_SELECTION

        return hashes.digest(ids.SHA1, encode(TPM_PCR_COMPOSITE(TPM_PCR_SELECTION(bits), values)))
    return pcr_policy(bits, hashes.digest(ids.SHA256, values))


def pcr_policy(bits: bytes, pcr_digest: bytes) -> bytes:
    """Return the policyDigest after one TPM2_PolicyPCR in the SHA-256 bank (Part 3, 23.7)."""
    select = encode(TPMS_PCR_SELECTION(TPM_ALG_SHA256, bits))
    return hashes.digest(
        ids.SHA256, bytes(32), TPM_CC_PolicyPCR.to_bytes(4, "big"), _ONE, select, pcr_digest)

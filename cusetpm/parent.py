"""What a vTPM has of the manager besides its key: quotes of the chip, and what its PCRs begin with."""

from __future__ import annotations

import logging
from struct import Struct
from typing import Final
from uuid import UUID

from cusetpm.transport import Transport
from hwtpm.client import Client
from hwtpm.crypto import hashes, ids
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.family import Family, response_code
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.types.constants import TPM_RC_DISABLED
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.tpm12.types.codes import TPM_FAIL
from manager.requests import GetBootHash, GetQuote, Refusal, pack_request, read_response

log = logging.getLogger(__name__)

_BANKS: Final = (ids.SHA1, ids.SHA256, ids.SHA384, ids.SHA512)
_PCR_READ: Final = Struct(">HIII")
_TPM_TAG_RQU_COMMAND, _TPM_ORD_PcrRead = 0x00C1, 0x00000015
_DIGEST: Final = 20


class Parent:
    """What the vTPM *uuid* of *family* asks for through *manager*, whose chip is of the family *chip*.

    *hwinitpcr* is a bit map of the chip's PCRs that this TPM's begin with, as in xen-vtpm(7); with
    *boot_hash*, PCR 0 is extended by what the manager has for GET_BOOT_HASH after that.
    """

    def __init__(self, manager: Transport, uuid: UUID, family: Family, chip: str = "2.0",
                 hwinitpcr: bytes = bytes(3), boot_hash: bool = False) -> None:
        self._manager, self._uuid, self._family, self._chip = manager, uuid, family, chip
        bits = int.from_bytes(hwinitpcr, "little")
        self._pcrs = [index for index in range(bits.bit_length()) if bits >> index & 1]
        self._boot_hash = boot_hash

    def quote(self, data: bytes, pcrs: bytes, flags: int) -> bytes:
        """Return what the manager answers to GET_QUOTE; TpmError with a code of the family."""
        request = GetQuote(data, pcrs, flags)
        try:
            answer = read_response(request, self._manager.execute(pack_request(request)))
        except ProtocolError as error:
            if not isinstance(error, Refusal):  # which the manager has logged, as often as is good
                log.warning("vTPM %s: no quote of the chip: %s", self._uuid, error)
            if self._family.name == "2.0":
                raise TpmError(TPM_RC_DISABLED) from None
            raise TpmError(error.code if isinstance(error, Refusal) else TPM_FAIL) from None
        return answer.signature + answer.rest

    def initial_pcrs(self) -> dict[tuple[int, int], bytes]:
        """Return what PCRs begin with, by algorithm and number.

        Raises StateError, one line for people, when manager or chip do not give it.
        """
        found: dict[tuple[int, int], bytes] = {}
        try:
            for index in self._pcrs:
                found |= self._read(index)
            if self._boot_hash:
                request = GetBootHash()
                digest = read_response(request, self._manager.execute(pack_request(request))).digest
                for alg in _BANKS if self._family.name == "2.0" else (ids.SHA1,):
                    size = hashes.size(alg)
                    before = found.get((alg, 0), bytes(size))
                    # In other banks than SHA-1's it is filled up with zeros, as IMA's digests were for long.
                    found[alg, 0] = hashes.digest(alg, before, digest.ljust(size, b"\0"))
        except (ProtocolError, TpmError) as error:
            raise StateError(f"vTPM {self._uuid}: its first PCRs are not to be had: {error}") from error
        return found

    def _read(self, index: int) -> dict[tuple[int, int], bytes]:
        """Return the values of one PCR of the chip, in the banks that it has in common with this TPM."""
        if self._family.name == self._chip == "2.0":
            select = (1 << index).to_bytes(3, "little")
            answer = Client(self._manager.execute, bytes).run(
                PCRRead([TPMS_PCR_SELECTION(alg, select) for alg in _BANKS]))
            have = [s.hash for s in answer.pcr_selection_out if any(s.pcr_select)]
            return {(alg, index): value for alg, value in zip(have, answer.pcr_values, strict=True)}
        response = self._manager.execute(_PCR_READ.pack(_TPM_TAG_RQU_COMMAND, _PCR_READ.size,
                                                        _TPM_ORD_PcrRead, index))
        if response_code(response) or len(response) != 10 + _DIGEST:
            raise ProtocolError(f"PCR {index} of the chip cannot be read (code {response_code(response)})")
        return {(ids.SHA1, index): response[10:]}

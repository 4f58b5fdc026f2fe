"""The PCRs of a TPM of either family, whose commands some function executes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from cusetpm.measure.pcr import COUNT, Pcr
from hwtpm.client import Client, Execute, Password
from hwtpm.crypto import ids
from hwtpm.errors import ProtocolError
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.types.constants import TPM_CAP_PCRS
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA

if TYPE_CHECKING:
    from hwtpm.client12 import Client as Client12

_SELECT_SIZE = 3  # octets, for 24 PCRs
_ATTEMPTS = 100
_TPM_TAG_RSP_COMMAND = 0x00C4  # of a TPM 1.2
_PROBE = bytes.fromhex("8001 00000016 0000017a 00000006 00000100 00000001")  # TPM2_GetCapability


class Tpm(Protocol):
    """What measuring needs of a TPM.  Calls raise TpmError and ProtocolError, and what *execute* raises."""

    def banks(self) -> dict[int, frozenset[int]]:
        """Return the PCRs of each bank that has any."""
        ...

    def read(self, indices: Iterable[int]) -> dict[Pcr, bytes]:
        """Return the values of the PCRs *indices* in every bank that has them, all of the same moment.

        Raises ProtocolError for a TPM whose PCRs do not stand still.
        """
        ...

    def extend(self, index: int, digests: Mapping[int, bytes]) -> None:
        """PCR *index* is extended with the digest of each bank."""
        ...


def connect(execute: Execute, entropy: Callable[[int], bytes], family: str | None = None) -> Tpm:
    """Return the TPM behind *execute*, of *family* "2.0" or "1.2", or whichever it is of.

    Then it is asked what a TPM 2.0 answers with a tag of its own, as Linux does (tpm2_probe).
    """
    if family is None:
        answer = int.from_bytes(execute(_PROBE)[:2], "big")
        family = "1.2" if answer == _TPM_TAG_RSP_COMMAND else "2.0"
    if family == "2.0":
        return Tpm20(Client(execute, entropy))
    from hwtpm.client12 import Client as Client12

    return Tpm12(Client12(execute, entropy))


class Tpm20:
    """A TPM 2.0, which has a bank for each of several hashes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, indices: Iterable[int]) -> dict[Pcr, bytes]:
        chosen = frozenset(indices)
        wanted = [(alg, index) for alg, have in self.banks().items() for index in sorted(have & chosen)]
        for _ in range(_ATTEMPTS):
            values: dict[Pcr, bytes] = {}
            counters = set()
            while missing := [pcr for pcr in wanted if pcr not in values]:
                counter, found = self._read_some(missing)
                if not found.keys() & set(missing):
                    raise ProtocolError("TPM2_PCR_Read returned none of the PCRs asked for")
                values |= found
                counters.add(counter)
            if len(counters) <= 1:
                return values
        raise ProtocolError("the PCRs are extended faster than they can be read")

    def extend(self, index: int, digests: Mapping[int, bytes]) -> None:
        values = [TPMT_HA(alg, digest) for alg, digest in digests.items()]
        self._client.run(PCRExtend(index, values), Password())

    def banks(self) -> dict[int, frozenset[int]]:
        selections = self._client.run(GetCapability(TPM_CAP_PCRS, 0, 1)).capability_data.data
        found: dict[int, frozenset[int]] = {}
        for selection in selections:
            assert isinstance(selection, TPMS_PCR_SELECTION)
            if indices := _indices(selection):
                found[selection.hash] = indices
        return found

    def _read_some(self, pcrs: list[Pcr]) -> tuple[int, dict[Pcr, bytes]]:
        """Return pcrUpdateCounter and the values of the first of *pcrs*, as many as fit into one response."""
        banks: dict[int, set[int]] = {}
        for alg, index in pcrs:
            banks.setdefault(alg, set()).add(index)
        response = self._client.run(PCRRead([_selection(alg, wanted) for alg, wanted in banks.items()]))
        found = [(s.hash, index) for s in response.pcr_selection_out for index in sorted(_indices(s))]
        if len(response.pcr_values) != len(found):
            raise ProtocolError("TPM2_PCR_Read returned another number of values than of PCRs")
        return response.pcr_update_counter, dict(zip(found, response.pcr_values, strict=True))


class Tpm12:
    """A TPM 1.2, whose PCRs are SHA-1."""

    def __init__(self, client: Client12) -> None:
        self._client = client

    def banks(self) -> dict[int, frozenset[int]]:
        return {ids.SHA1: frozenset(range(COUNT))}

    def read(self, indices: Iterable[int]) -> dict[Pcr, bytes]:
        from hwtpm.tpm12.requests.integrity import PcrRead

        wanted = sorted(index for index in indices if index < COUNT)
        before: dict[Pcr, bytes] = {}
        for _ in range(_ATTEMPTS):
            values = {(ids.SHA1, index): self._client.run(PcrRead(index)).out_digest for index in wanted}
            # It counts no changes, so what did not change between two readings was there at once.
            if values == before:
                return values
            before = values
        raise ProtocolError("the PCRs are extended faster than they can be read")

    def extend(self, index: int, digests: Mapping[int, bytes]) -> None:
        from hwtpm.tpm12.requests.integrity import Extend

        self._client.run(Extend(index, digests[ids.SHA1]))


def _selection(alg: int, indices: Iterable[int]) -> TPMS_PCR_SELECTION:
    bits = sum(1 << index for index in indices)
    return TPMS_PCR_SELECTION(alg, bits.to_bytes(_SELECT_SIZE, "little"))


def _indices(selection: TPMS_PCR_SELECTION) -> frozenset[int]:
    bits = int.from_bytes(selection.pcr_select, "little")
    return frozenset(index for index in range(8 * len(selection.pcr_select)) if bits >> index & 1)

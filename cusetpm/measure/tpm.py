"""The PCRs of a TPM 2.0, through a client of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cusetpm.measure.pcr import Pcr
from hwtpm.client import Client, Password
from hwtpm.errors import ProtocolError
from hwtpm.tpm2.requests.capability import GetCapability
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.types.constants import TPM_CAP_PCRS
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_HA

_SELECT_SIZE = 3  # octets, for 24 PCRs
_ATTEMPTS = 100


def allocated(client: Client) -> dict[int, frozenset[int]]:
    """Return the PCRs of each bank that has any.  Raises TpmError, ProtocolError."""
    selections = client.run(GetCapability(TPM_CAP_PCRS, 0, 1)).capability_data.data
    found: dict[int, frozenset[int]] = {}
    for selection in selections:
        assert isinstance(selection, TPMS_PCR_SELECTION)
        if pcrs := _indices(selection):
            found[selection.hash] = pcrs
    return found


def read(client: Client, indices: Iterable[int]) -> dict[Pcr, bytes]:
    """Return the values of the PCRs *indices* in every bank that has them, all of the same moment.

    Raises TpmError, and ProtocolError for a TPM whose PCRs do not stand still.
    """
    chosen = frozenset(indices)
    wanted = [(alg, index) for alg, have in allocated(client).items() for index in sorted(have & chosen)]
    for _ in range(_ATTEMPTS):
        values: dict[Pcr, bytes] = {}
        counters = set()
        while missing := [pcr for pcr in wanted if pcr not in values]:
            counter, found = _read_some(client, missing)
            if not found.keys() & set(missing):
                raise ProtocolError("TPM2_PCR_Read returned none of the PCRs asked for")
            values |= found
            counters.add(counter)
        if len(counters) <= 1:
            return values
    raise ProtocolError("the PCRs are extended faster than they can be read")


def _read_some(client: Client, pcrs: list[Pcr]) -> tuple[int, dict[Pcr, bytes]]:
    """Return pcrUpdateCounter and the values of the first of *pcrs*, as many as fit into one response."""
    banks: dict[int, set[int]] = {}
    for alg, index in pcrs:
        banks.setdefault(alg, set()).add(index)
    response = client.run(PCRRead([_selection(alg, wanted) for alg, wanted in banks.items()]))
    found = [(s.hash, index) for s in response.pcr_selection_out for index in sorted(_indices(s))]
    if len(response.pcr_values) != len(found):
        raise ProtocolError("TPM2_PCR_Read returned another number of values than of PCRs")
    return response.pcr_update_counter, dict(zip(found, response.pcr_values, strict=True))


def extend(client: Client, index: int, digests: Mapping[int, bytes]) -> None:
    """PCR *index* is extended with the digest of each bank.  Raises TpmError."""
    client.run(PCRExtend(index, [TPMT_HA(alg, digest) for alg, digest in digests.items()]), Password())


def _selection(alg: int, indices: Iterable[int]) -> TPMS_PCR_SELECTION:
    bits = sum(1 << index for index in indices)
    return TPMS_PCR_SELECTION(alg, bits.to_bytes(_SELECT_SIZE, "little"))


def _indices(selection: TPMS_PCR_SELECTION) -> frozenset[int]:
    bits = int.from_bytes(selection.pcr_select, "little")
    return frozenset(index for index in range(8 * len(selection.pcr_select)) if bits >> index & 1)

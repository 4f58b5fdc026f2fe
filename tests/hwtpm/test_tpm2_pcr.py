"""PCRs: extend, event, read, reset, localities, the update counter, composites (Part 1, 14; Part 3, 22)."""

from __future__ import annotations

import hashlib

import pytest

from hwtpm.client import Password
from hwtpm.errors import TpmError
from hwtpm.tpm2.requests.pcr import PCREvent, PCRExtend, PCRRead, PCRReadResponse, PCRReset
from hwtpm.tpm2.state.owner import Start
from hwtpm.tpm2.state.pcr import ALL_PCRS, Pcrs, selection
from hwtpm.tpm2.types.constants import (
    TPM_ALG_SHA1,
    TPM_ALG_SHA3_512,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_SHA512,
    TPM_RC_LOCALITY,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.structures import TPMT_HA
from tests.support.tpm2 import Machine, refused, started

ONE = b"\x01" * 32


def read(machine: Machine, *banks: tuple[int, int]) -> PCRReadResponse:
    return machine.run(PCRRead([selection(alg, mask) for alg, mask in banks]))


def value(machine: Machine, index: int, alg: int = TPM_ALG_SHA256) -> bytes:
    return read(machine, (alg, 1 << index)).pcr_values[0]


def extend(machine: Machine, index: int, *digests: TPMT_HA) -> None:
    machine.run(PCRExtend(index, list(digests) or [TPMT_HA(TPM_ALG_SHA256, ONE)]), Password())


def test_extend_hashes_old_value_and_digest() -> None:
    machine = started()
    extend(machine, 5)
    assert value(machine, 5) == hashlib.sha256(bytes(32) + ONE).digest()
    assert value(machine, 5, TPM_ALG_SHA1) == bytes(20)
    assert not machine.dirty


def test_extend_takes_digests_in_order_and_skips_absent_banks() -> None:
    machine = started()
    two = b"\x02" * 32
    extend(machine, 5, TPMT_HA(TPM_ALG_SHA256, ONE), TPMT_HA(TPM_ALG_SHA3_512, bytes(64)),
           TPMT_HA(TPM_ALG_SHA256, two))
    first = hashlib.sha256(bytes(32) + ONE).digest()
    assert value(machine, 5) == hashlib.sha256(first + two).digest()


def test_the_counter_counts_once_for_each_bank_extended() -> None:
    machine = started()
    before = read(machine).pcr_update_counter
    extend(machine, 5, TPMT_HA(TPM_ALG_SHA256, ONE), TPMT_HA(TPM_ALG_SHA1, bytes(20)))
    assert read(machine).pcr_update_counter == before + 2
    extend(machine, 5, TPMT_HA(TPM_ALG_SHA3_512, bytes(64)))
    extend(machine, 16)
    machine.run(PCRReset(23), Password())
    assert read(machine).pcr_update_counter == before + 2


def test_reset_counts_once_for_all_banks() -> None:
    machine = started()
    machine.locality = 2
    before = read(machine).pcr_update_counter
    machine.run(PCRReset(20), Password())
    assert read(machine).pcr_update_counter == before + 1


def test_null_handle_extends_nothing() -> None:
    machine = started()
    before = read(machine).pcr_update_counter
    extend(machine, TPM_RH_NULL)
    assert len(machine.run(PCREvent(TPM_RH_NULL, b"x"), Password()).digests) == 4
    assert read(machine).pcr_update_counter == before


@pytest.mark.parametrize(("index", "localities"), [
    (0, {0, 1, 2, 3, 4}), (15, {0, 1, 2, 3, 4}), (16, {0, 1, 2, 3, 4}), (17, {2, 3, 4}), (18, {2, 3, 4}),
    (19, {2, 3}), (20, {1, 2, 3}), (21, {2}), (22, {2}), (23, {0, 1, 2, 3, 4}),
])
def test_extend_refused_at_wrong_locality(index: int, localities: set[int]) -> None:
    machine = started()
    for machine.locality in range(5):
        if machine.locality in localities:
            extend(machine, index)
            machine.run(PCREvent(index, b""), Password())
        else:
            with refused(TPM_RC_LOCALITY):
                extend(machine, index)
            with refused(TPM_RC_LOCALITY):
                machine.run(PCREvent(index, b""), Password())


@pytest.mark.parametrize(("index", "localities"), [
    (0, set()), (15, set()), (16, {0, 1, 2, 3}), (17, set()), (19, set()), (20, {2, 3}), (22, {2, 3}),
    (23, {0, 1, 2, 3}),
])
def test_reset_refused_at_wrong_locality(index: int, localities: set[int]) -> None:
    machine = started()
    for machine.locality in range(5):
        if machine.locality in localities:
            machine.run(PCRReset(index), Password())
            assert value(machine, index) == bytes(32)
        else:
            with refused(TPM_RC_LOCALITY):
                machine.run(PCRReset(index), Password())


def test_event_extends_every_bank_with_its_digest() -> None:
    machine = started()
    digests = machine.run(PCREvent(3, b"an event"), Password()).digests
    assert {d.hash_alg: d.digest for d in digests} == {
        TPM_ALG_SHA1: hashlib.sha1(b"an event").digest(),
        TPM_ALG_SHA256: hashlib.sha256(b"an event").digest(),
        TPM_ALG_SHA384: hashlib.sha384(b"an event").digest(),
        TPM_ALG_SHA512: hashlib.sha512(b"an event").digest(),
    }
    assert value(machine, 3, TPM_ALG_SHA384) == hashlib.sha384(bytes(48) + digests[2].digest).digest()


def test_read_gives_at_most_eight_and_says_which() -> None:
    machine = started()
    found = read(machine, (TPM_ALG_SHA1, 0x3), (TPM_ALG_SHA256, ALL_PCRS), (TPM_ALG_SHA384, 1))
    assert found.pcr_selection_out == [selection(TPM_ALG_SHA1, 0x3), selection(TPM_ALG_SHA256, 0x3F),
                                       selection(TPM_ALG_SHA384, 0)]
    assert [len(v) for v in found.pcr_values] == [20] * 2 + [32] * 6


def test_read_of_a_bank_that_is_not_there_selects_nothing() -> None:
    found = read(started(), (TPM_ALG_SHA3_512, 0xFF))
    assert found.pcr_selection_out == [selection(TPM_ALG_SHA3_512, 0)]
    assert found.pcr_values == []


def test_there_is_no_pcr_24() -> None:
    machine = started()
    with refused(TPM_RC_VALUE | 0x100):
        extend(machine, 24)
    with refused(TPM_RC_VALUE | 0x100):
        machine.run(PCRReset(TPM_RH_NULL), Password())


def test_composite_is_over_the_selected_values_in_order() -> None:
    pcrs = Pcrs()
    pcrs.extend(3, [TPMT_HA(TPM_ALG_SHA256, ONE)])
    asked = [selection(TPM_ALG_SHA3_512, 1), selection(TPM_ALG_SHA256, 0x9), selection(TPM_ALG_SHA1, 0x1)]
    selected, digest = pcrs.composite(asked, TPM_ALG_SHA384)
    assert selected == [selection(TPM_ALG_SHA3_512, 0), *asked[1:]]
    content = pcrs.read(TPM_ALG_SHA256, 0) + pcrs.read(TPM_ALG_SHA256, 3) + pcrs.read(TPM_ALG_SHA1, 0)
    assert digest == hashlib.sha384(content).digest()


def test_an_allocation_leaves_out_pcrs() -> None:
    pcrs = Pcrs()
    pcrs.allocation = {TPM_ALG_SHA1: 0, TPM_ALG_SHA256: 0x0F}
    other = Pcrs()
    other.restore(pcrs.save())
    other.startup(Start.RESET)
    assert other.select([selection(TPM_ALG_SHA1, 1), selection(TPM_ALG_SHA256, 0x18)])[0] == [
        selection(TPM_ALG_SHA1, 0), selection(TPM_ALG_SHA256, 0x08)]
    assert other.allocated(0) == [TPM_ALG_SHA256]
    assert other.banks.keys() == {TPM_ALG_SHA1, TPM_ALG_SHA256}
    with pytest.raises(KeyError):
        other.read(TPM_ALG_SHA256, 4)


def test_damaged_values_are_refused() -> None:
    pcrs = Pcrs()
    good = pcrs.save_volatile()
    for bad in (b"", good[:-1], b"\x02" + good[1:], good + b"\0"):
        with pytest.raises((ValueError, TpmError)):
            pcrs.restore_volatile(bad)

"""PCRs of TPM 1.2: first values, localities, what a sleep keeps (Part 3, 16; TIS 1.3, table 5)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.profile import NUM_PCR
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR, TPM_ST_STATE
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from tests.support.tpm12 import started
from tests.support.tpm12_pair import pair

ZEROS, ONES = bytes(20), b"\xff" * 20


def selection(*numbers: int) -> TPM_PCR_SELECTION:
    return TPM_PCR_SELECTION(sum(1 << n for n in numbers).to_bytes(3, "little"))


def test_pcrs_of_a_dynamic_launch_start_as_ones_and_all_others_as_zeros() -> None:
    machine = started()
    assert [machine.run(PcrRead(i)).out_digest for i in range(NUM_PCR)] == [
        ONES if 17 <= i <= 22 else ZEROS for i in range(NUM_PCR)]


def test_a_resumed_tpm_has_its_static_pcrs_but_no_resettable_one() -> None:
    machine = started()
    machine.locality = 2
    for number in 4, 16, 17, 20, 23:
        machine.run(Extend(number, b"x" * 20))
    static = machine.run(PcrRead(4))
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    assert machine.run(PcrRead(4)) == static
    assert [machine.run(PcrRead(i)).out_digest for i in (16, 17, 20, 23)] == [ZEROS, ONES, ONES, ZEROS]


@pytest.mark.parametrize("locality", range(5))
def test_both_let_the_same_localities_extend_and_reset(locality: int) -> None:
    with pair() as both:
        both.set_locality(locality)
        for number in range(NUM_PCR + 1):
            both.agree(PcrRead(number))
            both.agree(Extend(number, bytes([number]) * 20))
            both.agree(PcrRead(number))
        for number in range(NUM_PCR):
            both.agree(PCRReset(selection(number)))
            both.agree(PcrRead(number))
        both.agree(PCRReset(selection()))
        both.agree(PCRReset(selection(16, 20)))
        both.agree(PCRReset(TPM_PCR_SELECTION(b"\0\0\1")))
        both.agree(PCRReset(TPM_PCR_SELECTION(b"")))
        both.agree(SaveState())
        both.power_cycle()
        both.agree(Startup(TPM_ST_STATE))
        for number in range(NUM_PCR):
            both.agree(PcrRead(number))
        both.power_cycle()
        both.agree(Startup(TPM_ST_CLEAR))
        both.agree(PcrRead(0))

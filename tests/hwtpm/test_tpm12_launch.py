"""Measured launches of TPM 1.2 (PC Client TIS 1.21, 11.3)."""

from __future__ import annotations

import pytest

from hwtpm.tpm12.profile import NUM_PCR
from hwtpm.tpm12.requests.integrity import Extend, PcrRead, PCRReset
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.testing import GetTestResult
from hwtpm.tpm12.types.codes import TPM_FAILEDSELFTEST
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR, TPM_ST_STATE
from hwtpm.tpm12.types.pcr import TPM_PCR_SELECTION
from tests.support.tpm2 import refused
from tests.support.tpm12 import Machine, started
from tests.support.tpm12_pair import pair


def test_both_measure_a_launch_alike() -> None:
    with pair() as both:
        engine = both.machine.engine
        both.set_locality(2)
        for number in range(NUM_PCR):
            both.agree(Extend(number, b"x" * 20))
        engine.hash_start()
        engine.hash_data(b"lau")
        engine.hash_data(b"nch")
        engine.hash_end()
        both.swtpm.hash_sequence(b"lau", b"nch")
        for number in range(NUM_PCR):
            both.agree(PcrRead(number))
        # The trusted environment is there, so that its PCRs are reset to zeros.
        for number in range(16, NUM_PCR):
            both.agree(PCRReset(TPM_PCR_SELECTION((1 << number).to_bytes(3, "little"))))
            both.agree(PcrRead(number))


@pytest.mark.parametrize("step", ["hash_data", "hash_end"])
def test_a_launch_without_a_start_begins_failure_mode(step: str) -> None:
    machine = started()
    getattr(machine.engine, step)(*([b"x"] if step == "hash_data" else []))
    with refused(TPM_FAILEDSELFTEST):
        machine.run(PcrRead(17))
    assert machine.run(GetTestResult()).out_data == b"failed: a launch without TPM_HASH_START"


def test_a_launch_before_the_start_of_the_tpm_begins_failure_mode() -> None:
    machine = Machine()
    machine.engine.hash_start()
    machine.engine.hash_end()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_CLEAR))
    assert machine.run(GetTestResult()).out_data == b"failed: a launch before TPM_Startup"


def test_a_launch_makes_a_saved_state_void() -> None:
    machine = started()
    machine.run(SaveState())
    machine.engine.hash_start()
    assert machine.engine.dirty
    machine.durable = machine.engine.snapshot()
    machine.power_cycle()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_STATE))

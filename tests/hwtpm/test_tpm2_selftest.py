"""Self-tests (Part 3, 10)."""

from __future__ import annotations

import pytest

from hwtpm.tpm2 import selftest
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.testing import GetTestResult, IncrementalSelfTest, SelfTest
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_RC_CANCELED,
    TPM_RC_FAILURE,
    TPM_RC_SIZE,
    TPM_RC_SUCCESS,
    TPM_RC_VALUE,
)
from tests.support.tpm2 import refused, started


@pytest.mark.parametrize("alg", selftest.TESTS)
def test_every_known_answer_is_right(alg: int) -> None:
    assert selftest.TESTS[alg]()


@pytest.mark.parametrize("full", [0, 1])
def test_self_test_tests_everything(full: int) -> None:
    machine = started()
    machine.run(SelfTest(full))
    assert machine.tpm.power.tested == set(selftest.TESTS)
    result = machine.run(GetTestResult())
    assert result.test_result == TPM_RC_SUCCESS
    assert result.out_data == b""
    assert machine.run(IncrementalSelfTest([])).to_do_list == []


def test_the_result_is_asked_for_before_any_test() -> None:
    machine = started()
    assert machine.run(GetTestResult()).test_result == TPM_RC_SUCCESS
    assert machine.run(IncrementalSelfTest([])).to_do_list == []


def test_a_test_that_fails_while_the_result_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    monkeypatch.setitem(selftest.TESTS, TPM_ALG_AES, lambda: False)
    assert machine.run(GetTestResult()).test_result == TPM_RC_FAILURE
    with refused(TPM_RC_FAILURE):
        machine.run(GetRandom(1))


def test_incremental_self_test_returns_what_is_left() -> None:
    machine = started()
    assert machine.run(IncrementalSelfTest([])).to_do_list == list(selftest.TESTS)
    left = machine.run(IncrementalSelfTest([TPM_ALG_SHA256, TPM_ALG_AES])).to_do_list
    assert left == [alg for alg in selftest.TESTS if alg not in (TPM_ALG_SHA256, TPM_ALG_AES)]


@pytest.mark.parametrize("alg", [TPM_ALG_NULL, 0x7777])
def test_only_implemented_algorithms_can_be_tested(alg: int) -> None:
    with refused(TPM_RC_VALUE | 0x140):
        started().run(IncrementalSelfTest([alg]))
    with refused(TPM_RC_SIZE | 0x140):
        started().run(IncrementalSelfTest([TPM_ALG_SHA256] * 65))


def test_a_wrong_answer_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    monkeypatch.setitem(selftest.TESTS, TPM_ALG_AES, lambda: False)
    with refused(TPM_RC_FAILURE):
        machine.run(SelfTest(1))
    with refused(TPM_RC_FAILURE):
        machine.run(GetRandom(1))
    assert machine.run(GetTestResult()).test_result == TPM_RC_FAILURE


def test_a_self_test_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()

    asked: list[bool] = []

    def cancel() -> bool:
        asked.append(True)
        return True

    monkeypatch.setitem(selftest.TESTS, TPM_ALG_AES, cancel)
    machine.cancelled = lambda: bool(asked)
    with refused(TPM_RC_CANCELED):
        machine.run(SelfTest(1))
    machine.run(GetRandom(1))

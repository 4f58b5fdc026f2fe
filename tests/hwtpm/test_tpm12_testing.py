"""Self-tests, failure mode and starting (Part 3, 3, 4, 27.5 and 28.3)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto import ids
from hwtpm.crypto.errors import UnsupportedAlgorithm
from hwtpm.errors import MissingPrimitive
from hwtpm.tpm12 import selftest
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.startup import Reset, SaveState, Startup
from hwtpm.tpm12.requests.testing import CertifySelfTest, ContinueSelfTest, GetTestResult, SelfTestFull
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAMETER,
    TPM_BAD_SCHEME,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_POSTINIT,
)
from hwtpm.tpm12.types.constants import (
    TPM_KH_SRK,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_ST_CLEAR,
    TPM_ST_DEACTIVATED,
    TPM_ST_STATE,
)
from hwtpm.tpm12.types.ordinals import TPM_ORD_Init
from tests.support.tpm2 import rc_of, refused
from tests.support.tpm12 import (
    DER_PARMS,
    KEY_AUTH,
    OWNER_AUTH,
    SRK_AUTH,
    Machine,
    owned,
    signing_key,
    started,
)
from tests.support.tpm12_pair import pair

NONCE = b"n" * 20


def result(machine: Machine) -> bytes:
    return machine.run(GetTestResult()).out_data


def spoil(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(selftest.TESTS, name, lambda: False)


@pytest.mark.parametrize("name", selftest.TESTS)
def test_every_known_answer_is_right(name: str) -> None:
    assert selftest.TESTS[name]()


def test_all_is_tested_before_the_first_command_that_may_need_it() -> None:
    machine = started()
    machine.run(Extend(0, bytes(20)))
    machine.run(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
    assert result(machine) == b"limited tests passed"
    machine.run(GetRandom(1))
    assert result(machine) == b"all tests passed"


@pytest.mark.parametrize("request_", [SelfTestFull(), ContinueSelfTest()])
@pytest.mark.parametrize("name", selftest.TESTS)
def test_a_wrong_answer_begins_failure_mode(request_, name: str,  # type: ignore[no-untyped-def]
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    spoil(monkeypatch, name)
    with refused(TPM_FAILEDSELFTEST):
        machine.run(request_)
    monkeypatch.undo()
    for other in GetRandom(1), Extend(0, bytes(20)), request_, SaveState(), PhysicalPresence(8):
        with refused(TPM_FAILEDSELFTEST):
            machine.run(other)
    assert result(machine) == b"failed: " + name.encode()
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    machine.run(request_)


def test_a_command_that_needs_what_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    spoil(monkeypatch, "the random number generator")
    with refused(TPM_FAILEDSELFTEST):
        machine.run(GetRandom(1))


def test_a_tpm_whose_sha_1_is_wrong_does_not_even_start(monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "SHA-1")
    machine = Machine()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_CLEAR))
    assert result(machine) == b"failed: SHA-1"
    with refused(TPM_INVALID_POSTINIT):
        machine.run(Startup(TPM_ST_CLEAR))


def test_an_endorsement_key_that_does_not_work_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = owned()
    machine.run(SelfTestFull())
    key = machine.tpm.permanent.endorsement_key.rsa
    monkeypatch.setattr(type(key), "decrypt_oaep", lambda *_: bytes(20))
    monkeypatch.setitem(selftest.TESTS, "RSA encryption with SHA-1", lambda: True)
    with refused(TPM_FAILEDSELFTEST):
        machine.run(SelfTestFull())
    assert result(machine) == b"failed: the endorsement key"


@pytest.mark.parametrize("flag", ["fips", "tpm_post"])
def test_the_rest_is_tested_once_unless_the_flags_want_all_each_time(flag: str,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    machine.run(ContinueSelfTest())
    spoil(monkeypatch, "HMAC with SHA-1")
    machine.run(ContinueSelfTest())
    machine.tpm.flags.set(**{flag: True})
    with refused(TPM_FAILEDSELFTEST):
        machine.run(ContinueSelfTest())


def test_a_library_that_refuses_a_primitive_is_named_before_anything_else(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> bool:
        raise UnsupportedAlgorithm("no")

    def refuse_too() -> bool:
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setitem(selftest.TESTS, "SHA-1", refuse)
    monkeypatch.setitem(selftest.TESTS, "RSA with 512 bits", refuse_too)
    selftest.require_primitives.cache_clear()
    try:
        with pytest.raises(MissingPrimitive) as caught:
            Engine(bytes, lambda: 0)
    finally:
        selftest.require_primitives.cache_clear()
    assert "refuses SHA-1, RSA with 512 bits, and" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_self_test_is_certified_with_a_signing_key() -> None:
    machine = owned()
    handle = signing_key(machine.client)
    signed = machine.run(CertifySelfTest(handle, NONCE), machine.client.oiap(KEY_AUTH))
    digest = sha1(b"Test Passed" + NONCE + bytes.fromhex("00000052")).digest()
    machine.tpm.keys.get(handle).key.rsa.verify_pkcs1(ids.SHA1, digest, signed.sig)
    with refused(TPM_AUTHFAIL):
        machine.run(CertifySelfTest(handle, NONCE), machine.client.oiap(b"?" * 20))
    with refused(TPM_AUTHFAIL):
        machine.run(CertifySelfTest(handle, NONCE))
    with refused(TPM_BAD_SCHEME):
        machine.run(CertifySelfTest(TPM_KH_SRK, NONCE), machine.client.oiap(SRK_AUTH))
    der = signing_key(machine.client, DER_PARMS)
    with refused(TPM_BAD_SCHEME):
        machine.run(CertifySelfTest(der, NONCE), machine.client.oiap(KEY_AUTH))


def test_a_failed_self_test_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = owned()
    handle = signing_key(machine.client)
    session = machine.client.oiap(KEY_AUTH)
    spoil(monkeypatch, "AES-128 in counter mode")
    with refused(TPM_FAILEDSELFTEST):
        machine.run(CertifySelfTest(handle, NONCE), session)


def test_nothing_to_resume_begins_failure_mode() -> None:
    machine = started()
    machine.power_cycle()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_STATE))
    assert result(machine) == b"failed: no state to resume"
    with refused(TPM_INVALID_POSTINIT):
        machine.run(Startup(TPM_ST_CLEAR))


def test_a_resumed_tpm_tests_itself_again() -> None:
    machine = started()
    machine.run(SelfTestFull())
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    assert result(machine) == b"limited tests passed"


def test_an_unknown_way_to_start_leaves_the_tpm_as_it_was() -> None:
    machine = Machine()
    with refused(TPM_BAD_PARAMETER):
        machine.run(Startup(9))
    machine.run(Startup(TPM_ST_CLEAR))


def test_a_tpm_that_starts_deactivated_stays_so_until_power_goes() -> None:
    machine = started()
    machine.power_cycle()
    machine.run(Startup(TPM_ST_DEACTIVATED))
    assert machine.tpm.flags.stclear.deactivated
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    machine.run(PcrRead(0))


def test_init_is_no_command() -> None:
    machine = started()
    machine.run(SaveState())
    answer = machine.execute(bytes.fromhex("00c1 0000000a") + TPM_ORD_Init.to_bytes(4, "big"))
    assert int.from_bytes(answer[6:], "big") == TPM_BAD_ORDINAL
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))


def test_reset_closes_authorization_sessions() -> None:
    machine = owned()
    handle = signing_key(machine.client)
    session = machine.client.oiap(KEY_AUTH)
    machine.run(Reset())
    with refused(TPM_INVALID_AUTHHANDLE):
        machine.run(CertifySelfTest(handle, NONCE), session)
    assert machine.tpm.keys.get(handle)
    assert rc_of(lambda: machine.run(Reset(), machine.client.oiap(OWNER_AUTH)))


def test_both_start_test_and_fail_alike() -> None:
    with pair() as both:
        for request in (SelfTestFull(), ContinueSelfTest(), Reset(), Startup(TPM_ST_CLEAR),
                        Startup(TPM_ST_STATE)):
            both.agree(request)
        both.power_cycle()
        for request in (SelfTestFull(), GetRandom(0), Startup(TPM_ST_STATE), SelfTestFull(),
                        ContinueSelfTest(), GetRandom(0), Extend(0, bytes(20)), Startup(TPM_ST_CLEAR)):
            both.agree(request)
        both.power_cycle()
        for request in (Startup(TPM_ST_DEACTIVATED), PcrRead(0), SelfTestFull(), Startup(TPM_ST_CLEAR)):
            both.agree(request)

"""What every TPM 1.2 command goes through: header, state, tag, authorization, saving."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwtpm.errors import StateError
from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.engine import Engine
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.random import GetRandom, StirRandom
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.storage import LoadKey2
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_ORDINAL,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADTAG,
    TPM_DEFEND_LOCK_RUNNING,
    TPM_DISABLED,
    TPM_FAILEDSELFTEST,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_POSTINIT,
)
from hwtpm.tpm12.types.constants import (
    TPM_ET_AES128_CTR,
    TPM_KEY_SIGNING,
    TPM_KH_SRK,
    TPM_ST_CLEAR,
    TPM_ST_STATE,
    TPM_TAG_KEY12,
)
from hwtpm.tpm12.types.ordinals import TPM_ORD_GetRandom, TPM_ORD_SetOrdinalAuditStatus, TPM_ORD_StirRandom
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    KEY_AUTH,
    SIGNING_PARMS,
    Machine,
    create_key,
    key_template,
    load_key,
    owned,
    signing_key,
    started,
)


def code(response: bytes) -> int:
    return int.from_bytes(response[6:10], "big")


def test_nothing_but_startup_before_startup() -> None:
    machine = Machine()
    machine.tpm.flags.set(disable=False, deactivated=False)
    with refused(TPM_INVALID_POSTINIT):
        machine.run(GetRandom(4))
    machine.run(Startup(TPM_ST_CLEAR))
    assert len(machine.run(GetRandom(4)).random_bytes) == 4
    with refused(TPM_INVALID_POSTINIT):
        machine.run(Startup(TPM_ST_CLEAR))


@pytest.mark.parametrize(("command", "rc"), [
    (b"", TPM_BAD_PARAM_SIZE),
    (pack(">HII", 0xC1, 11, TPM_ORD_GetRandom), TPM_BAD_PARAM_SIZE),
    (pack(">HII", 0xC1, 10, 0x123456), TPM_BAD_ORDINAL),
    (pack(">HII", 0xC1, 10, TPM_ORD_GetRandom), TPM_BAD_PARAM_SIZE),
    (pack(">HIII", 0xC4, 14, TPM_ORD_GetRandom, 4), TPM_BADTAG),
    (pack(">HIII", 0xC2, 14, TPM_ORD_GetRandom, 4), TPM_BADTAG),
    (pack(">HIIIB", 0xC1, 15, TPM_ORD_GetRandom, 4, 0), TPM_BAD_PARAM_SIZE),
])
def test_a_malformed_command_has_its_code(command: bytes, rc: int) -> None:
    response = started().execute(command)
    assert response == pack(">HII", 0xC4, 10, rc)


def test_of_two_faults_of_a_command_the_one_that_comes_first_is_told() -> None:
    machine = owned()
    body = pack(">IB", 1, 1)
    authorization = bytes(24) + b"\2" + bytes(20)  # continueAuthSession is neither TRUE nor FALSE
    for octets, rc in (
        (body[:4] + b"\2" + authorization, TPM_BAD_PARAMETER),
        (body + authorization, TPM_BAD_PARAMETER),
        (body + authorization[:30], TPM_BAD_PARAMETER),
        (body + authorization + b"\0", TPM_BAD_PARAMETER),
        (body + authorization[:24], TPM_BAD_PARAM_SIZE),
        (body + bytes(46), TPM_BAD_PARAM_SIZE),
    ):
        command = pack(">HII", 0xC2, 10 + len(octets), TPM_ORD_SetOrdinalAuditStatus) + octets
        assert code(machine.execute(command)) == rc, octets.hex()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_any_octets_get_one_well_formed_response(octets: bytes) -> None:
    machine = started()
    response = machine.execute(octets)
    assert len(response) >= 10
    assert int.from_bytes(response[2:6], "big") == len(response)
    assert len(machine.run(GetRandom(4)).random_bytes) == 4


@cache
def _owned_state() -> bytes:
    state = owned().durable
    assert state is not None
    return state


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_parameters_of_any_command_get_one_well_formed_response(data: st.DataObject) -> None:
    machine = Machine(snapshot=_owned_state())
    machine.run(Startup(TPM_ST_CLEAR))
    before = machine.durable
    ordinal = data.draw(st.sampled_from(sorted(COMMANDS)))
    tag, body = data.draw(st.sampled_from([0xC1, 0xC2, 0xC3])), data.draw(st.binary(max_size=200))
    response = machine.execute(pack(">HII", tag, 10 + len(body), ordinal) + body)
    assert int.from_bytes(response[2:6], "big") == len(response) >= 10
    assert code(response) == 0 or machine.durable == before


def test_at_most_255_octets_are_stirred_into_the_random_numbers() -> None:
    machine = started()
    machine.run(StirRandom(bytes(255)))
    with refused(TPM_BAD_PARAMETER):
        machine.run(StirRandom(bytes(256)))
    longer = pack(">HIII", 0xC1, 14, TPM_ORD_StirRandom, 256)
    assert code(machine.execute(longer)) == TPM_BAD_PARAM_SIZE


def test_a_disabled_tpm_extends_and_shows_nothing() -> None:
    machine = Machine()
    machine.run(Startup(TPM_ST_CLEAR))
    assert machine.run(Extend(1, bytes(20))).out_digest == bytes(20)
    with refused(TPM_DISABLED):
        machine.run(PcrRead(1))
    assert machine.tpm.pcrs.values[1] != bytes(20)


@pytest.mark.parametrize("adip", [0, TPM_ET_AES128_CTR])
def test_a_key_is_made_loaded_and_kept_nowhere(adip: int) -> None:
    machine = owned()
    client = machine.client
    before = machine.durable
    key = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS, tag=TPM_TAG_KEY12), adip=adip)
    handle = load_key(client, key)
    assert machine.tpm.keys.get(handle).key.usage_auth == KEY_AUTH
    assert not machine.tpm.sessions.open  # one ends with the secret it carried, one was meant for one use
    assert machine.durable == before


def test_a_wrong_secret_ends_the_session_and_six_lock_the_tpm() -> None:
    machine = owned()
    key = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    for _ in range(6):
        session = machine.client.oiap(b"x" * 20)
        with refused(TPM_AUTHFAIL):
            machine.run(LoadKey2(TPM_KH_SRK, key), session)
        if machine.tpm.lockout.failures < 6:
            with refused(TPM_INVALID_AUTHHANDLE):
                machine.run(LoadKey2(TPM_KH_SRK, key), session)
    with refused(TPM_DEFEND_LOCK_RUNNING):
        machine.run(LoadKey2(TPM_KH_SRK, key), session)
    machine.clock.advance(1000)
    load_key(machine.client, key)


def test_a_saved_state_is_resumed_once() -> None:
    machine = owned()
    machine.run(Extend(5, b"\1" * 20))
    value = machine.run(PcrRead(5)).out_digest
    handle = signing_key(machine.client)
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    assert machine.run(PcrRead(5)).out_digest == value
    assert machine.tpm.keys.get(handle).key.usage_auth == KEY_AUTH
    machine.power_cycle()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_STATE))


def test_any_command_makes_a_saved_state_void() -> None:
    machine = started()
    machine.run(SaveState())
    machine.run(GetRandom(1))
    machine.power_cycle()
    with refused(TPM_FAILEDSELFTEST):
        machine.run(Startup(TPM_ST_STATE))


def test_owner_and_srk_survive_a_loss_of_power() -> None:
    machine = owned()
    key = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert load_key(machine.client, key)


@pytest.mark.parametrize("damage", [
    lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"x" + s[1:], lambda s: s[:13] + b"\x09" + s[14:],
    lambda s: b"",
])
def test_a_damaged_snapshot_is_refused(damage) -> None:  # type: ignore[no-untyped-def]
    snapshot = started().durable
    assert snapshot is not None
    with pytest.raises(StateError):
        Engine(bytes, lambda: 0, damage(snapshot))


def test_static_pcrs_begin_with_zeros_and_dynamic_ones_with_ones() -> None:
    machine = started()
    for number in range(24):
        expected = b"\xff" * 20 if 17 <= number <= 22 else bytes(20)
        assert machine.run(PcrRead(number)).out_digest == expected


def test_a_launch_resets_the_dynamic_pcrs_and_is_measured() -> None:
    machine = started()
    machine.engine.hash_start()
    machine.engine.hash_data(b"lau")
    machine.engine.hash_data(b"nch")
    machine.engine.hash_end()
    digest = sha1(b"launch").digest()
    assert machine.run(PcrRead(17)).out_digest == sha1(bytes(20) + digest).digest()
    assert machine.run(PcrRead(18)).out_digest == bytes(20)
    assert machine.run(PcrRead(16)).out_digest == bytes(20)

"""Ticks of TPM 1.2 (Part 3, 23)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto import ids
from hwtpm.tpm12.profile import TICK_US
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.ticks import GetTicks, TickStampBlob
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL, TPM_INAPPROPRIATE_SIG, TPM_INVALID_KEYUSAGE, TPM_NOSRK
from hwtpm.tpm12.types.constants import TPM_KH_SRK, TPM_ST_CLEAR, TPM_ST_STATE
from hwtpm.tpm12.types.key import TPM_KEY_PARMS
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    DER_PARMS,
    INFO_PARMS,
    KEY_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    owned,
    signing_key,
    started,
)

NONCE, DIGEST = b"n" * 20, b"d" * 20


def test_ticks_count_what_the_clock_shows_since_the_start() -> None:
    machine = started()
    first = machine.run(GetTicks()).current_time
    machine.clock.advance(1234)
    second = machine.run(GetTicks()).current_time
    assert first.current_ticks == 0
    assert second.current_ticks * TICK_US == 1_234_000
    assert second.tick_rate == TICK_US
    assert second.tick_nonce == first.tick_nonce != bytes(20)


@pytest.mark.parametrize("start", [TPM_ST_CLEAR, TPM_ST_STATE])
def test_each_start_begins_a_new_session(start: int) -> None:
    machine = started()
    first = machine.run(GetTicks()).current_time
    machine.clock.advance(50)
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(start))
    second = machine.run(GetTicks()).current_time
    assert second.current_ticks == 0
    assert second.tick_nonce != first.tick_nonce


def test_ticks_go_on_in_a_tpm_that_moved() -> None:
    machine, other = started(), started(b"other")
    machine.clock.advance(5000)
    other.tpm.ticks.restore_volatile(machine.tpm.ticks.save_volatile())
    assert other.run(GetTicks()) == machine.run(GetTicks())
    other.clock.advance(1)
    machine.clock.advance(1)
    assert other.run(GetTicks()) == machine.run(GetTicks())


@pytest.mark.parametrize("parms", [SIGNING_PARMS, INFO_PARMS])
def test_a_stamp_is_signed_over_digest_and_ticks(parms: TPM_KEY_PARMS) -> None:
    machine = owned()
    handle = signing_key(machine.client, parms)
    machine.clock.advance(777)
    stamp = machine.run(TickStampBlob(handle, NONCE, DIGEST), machine.client.oiap(KEY_AUTH))
    assert stamp.current_ticks == machine.run(GetTicks()).current_time
    data = DIGEST + encode(stamp.current_ticks)
    info = b"\0\x05TSTP" + NONCE + len(data).to_bytes(4, "big") + data
    machine.tpm.keys.get(handle).key.rsa.verify_pkcs1(ids.SHA1, sha1(info).digest(), stamp.sig)


def test_only_signing_keys_with_an_owner_stamp() -> None:
    machine = owned()
    with refused(TPM_INVALID_KEYUSAGE):
        machine.run(TickStampBlob(TPM_KH_SRK, NONCE, DIGEST), machine.client.oiap(SRK_AUTH))
    der = signing_key(machine.client, DER_PARMS)
    with refused(TPM_INAPPROPRIATE_SIG):
        machine.run(TickStampBlob(der, NONCE, DIGEST), machine.client.oiap(KEY_AUTH))
    with refused(TPM_AUTHFAIL):
        machine.run(TickStampBlob(der, NONCE, DIGEST))
    with refused(TPM_NOSRK):
        started().run(TickStampBlob(der, NONCE, DIGEST))

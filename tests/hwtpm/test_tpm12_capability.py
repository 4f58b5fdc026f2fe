"""What a TPM 1.2 tells of itself (Part 3, 7.1, 7.3 and 28.1; Part 2, 21)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.crypto import ids
from hwtpm.tpm12 import profile, selftest
from hwtpm.tpm12.context import COMMANDS
from hwtpm.tpm12.requests.capability import (
    GetCapability,
    GetCapabilityOwner,
    GetCapabilitySigned,
    GetCapabilitySignedResponse,
)
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.requests.testing import SelfTestFull
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types import ordinals
from hwtpm.tpm12.types.capability import TPM_CAP_VERSION_INFO, TPM_DA_INFO, TPM_DA_INFO_LIMITED, VERSION
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_FAILEDSELFTEST,
    TPM_INAPPROPRIATE_SIG,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_NOSRK,
)
from hwtpm.tpm12.types.key import TPM_KEY_PARMS
from hwtpm.wire import decode, encode
from tests.hwtpm.test_tpm12_audit import MAINTENANCE
from tests.hwtpm.test_tpm12_nv import public
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    INFO_PARMS,
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    owned,
    signing_key,
    started,
)
from tests.support.tpm12_pair import pair

NONCE = b"n" * 20
AES_PARMS = TPM_KEY_PARMS(c.TPM_ALG_AES128, c.TPM_ES_NONE, c.TPM_SS_NONE, b"")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def ask(machine: Machine, area: int, sub_cap: bytes = b"") -> bytes:
    return machine.run(GetCapability(area, sub_cap)).resp


def prop(machine: Machine, which: int) -> int:
    return int.from_bytes(ask(machine, c.TPM_CAP_PROPERTY, u32(which)), "big")


def test_an_ordinal_is_supported_if_it_has_a_handler() -> None:
    machine = started()
    for name, ordinal in vars(ordinals).items():
        if name.startswith(("TPM_ORD_", "TSC_ORD_")):
            assert ask(machine, c.TPM_CAP_ORD, u32(ordinal)) == bytes([ordinal in COMMANDS]), name
    assert ask(machine, c.TPM_CAP_ORD, u32(0xFFFFFFFF)) == b"\0"


@pytest.mark.parametrize(("area", "sub_cap", "expected"), [
    (c.TPM_CAP_ALG, u32(c.TPM_ALG_RSA), b"\1"),
    (c.TPM_CAP_ALG, u32(99), b"\0"),
    (c.TPM_CAP_PID, u16(c.TPM_PID_OSAP), b"\1"),
    (c.TPM_CAP_PID, u16(99), b"\0"),
    (c.TPM_CAP_VERSION, b"", bytes([1, 1, 0, 0])),
    (c.TPM_CAP_SYM_MODE, u32(1), b"\0"),
    (c.TPM_CAP_AUTH_ENCRYPT, u32(c.TPM_ALG_AES128), b"\1"),
    (c.TPM_CAP_AUTH_ENCRYPT, u32(c.TPM_ALG_AES256), b"\0"),
    (c.TPM_CAP_CHECK_LOADED, encode(STORAGE_PARMS), b"\1"),
    (c.TPM_CAP_CHECK_LOADED, encode(AES_PARMS), b"\0"),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 2, 0, 3]), b"\1"),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 2, 0, 4]), b"\0"),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 2, 0, 0]), b"\0"),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 1, 0, 2]), b"\1"),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 1, 0, 3]), b"\0"),
    (c.TPM_CAP_NV_LIST, b"", b""),
    (c.TPM_CAP_KEY_HANDLE, b"", b"\0\0"),
])
def test_a_new_tpm_tells(area: int, sub_cap: bytes, expected: bytes) -> None:
    assert ask(started(), area, sub_cap) == expected


@pytest.mark.parametrize(("area", "sub_cap", "rc"), [
    (0, b"", TPM_BAD_MODE),
    (0x1B, u32(1), TPM_BAD_MODE),
    (c.TPM_CAP_MFR, u32(0x20), TPM_BAD_MODE),
    (c.TPM_CAP_ORD, b"", TPM_BAD_MODE),
    (c.TPM_CAP_ORD, bytes(5), TPM_BAD_MODE),
    (c.TPM_CAP_PID, u32(1), TPM_BAD_MODE),
    (c.TPM_CAP_FLAG, u32(0x107), TPM_BAD_MODE),
    (c.TPM_CAP_PROPERTY, u32(0x100), TPM_BAD_MODE),
    (c.TPM_CAP_HANDLE, u32(c.TPM_RT_HASH), TPM_BAD_PARAMETER),
    (c.TPM_CAP_KEY_STATUS, u32(7), TPM_INVALID_KEYHANDLE),
    (c.TPM_CAP_NV_INDEX, u32(7), TPM_BADINDEX),
    (c.TPM_CAP_CHECK_LOADED, bytes(3), TPM_BAD_PARAM_SIZE),
    (c.TPM_CAP_SELECT_SIZE, bytes([2, 1, 0, 3]), TPM_BAD_PARAMETER),
    (c.TPM_CAP_SELECT_SIZE, bytes([1, 3, 0, 3]), TPM_BAD_PARAMETER),
    (c.TPM_CAP_SELECT_SIZE, bytes(3), TPM_BAD_PARAMETER),
])
def test_what_is_no_capability_has_its_code(area: int, sub_cap: bytes, rc: int) -> None:
    with refused(rc):
        ask(started(), area, sub_cap)


def test_the_version_says_1_2_and_whose() -> None:
    info = decode(TPM_CAP_VERSION_INFO, ask(started(), c.TPM_CAP_VERSION_VAL))
    assert info.version == VERSION
    assert info.version[:2] == b"\1\2"
    assert info.tpm_vendor_id == profile.VENDOR_ID == u32(prop(started(), c.TPM_CAP_PROP_MANUFACTURER))


def test_flags_are_told_as_they_are() -> None:
    machine = owned()
    machine.run(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_PRESENT))
    permanent = ask(machine, c.TPM_CAP_FLAG, u32(c.TPM_CAP_FLAG_PERMANENT))
    assert permanent == b"\0\x1f" + bytes([0, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert ask(machine, c.TPM_CAP_FLAG, u32(c.TPM_CAP_FLAG_VOLATILE)) == b"\0\x20" + bytes([0, 0, 1, 0, 0])
    told = machine.run(GetCapabilityOwner(), machine.client.oiap(OWNER_AUTH))
    assert told.version == VERSION
    assert told.non_volatile_flags == sum(bit << i for i, bit in enumerate(permanent[2:]))
    assert told.volatile_flags == 4
    with refused(TPM_AUTHFAIL):
        machine.run(GetCapabilityOwner(), machine.client.oiap(b"?" * 20))
    with refused(TPM_NOSRK):
        other = started()
        other.run(GetCapabilityOwner(), other.client.oiap(OWNER_AUTH))


def test_what_is_left_of_each_resource_is_told() -> None:
    machine = owned()
    before = {which: prop(machine, which) for which in (
        c.TPM_CAP_PROP_KEYS, c.TPM_CAP_PROP_AUTHSESS, c.TPM_CAP_PROP_SESSIONS, c.TPM_CAP_PROP_COUNTERS)}
    handle = signing_key(machine.client)
    session = machine.client.oiap(KEY_AUTH)
    machine.tpm.counters.create(b"mine", bytes(20))
    assert all(prop(machine, which) == value - 1 for which, value in before.items())
    for resource, listed in ((c.TPM_RT_KEY, handle), (c.TPM_RT_AUTH, session.handle), (c.TPM_RT_COUNTER, 0)):
        assert ask(machine, c.TPM_CAP_HANDLE, u32(resource)) == b"\0\1" + u32(listed)
    assert ask(machine, c.TPM_CAP_KEY_STATUS, u32(handle)) == b"\0"
    machine.tpm.keys.control(machine.tpm.keys.get(handle), c.TPM_KEY_CONTROL_OWNER_EVICT)
    assert ask(machine, c.TPM_CAP_KEY_STATUS, u32(handle)) == b"\1"


def test_a_full_tpm_says_that_no_key_can_be_loaded() -> None:
    machine = owned()
    key = machine.tpm.permanent.srk
    while len(machine.tpm.keys.loaded) < profile.KEY_HANDLES:
        machine.tpm.keys.add(key, False)
    assert ask(machine, c.TPM_CAP_CHECK_LOADED, encode(SIGNING_PARMS)) == b"\0"
    assert prop(machine, c.TPM_CAP_PROP_KEYS) == 0


def test_nv_areas_are_listed_and_described() -> None:
    machine = started()
    areas = [public(c.TPM_NV_PER_PPWRITE, index=index) for index in (0x1000, 0x1001)]
    for area in areas:
        machine.tpm.nv.define(area, bytes(20))
    assert ask(machine, c.TPM_CAP_NV_LIST) == u32(0x1000) + u32(0x1001)
    assert ask(machine, c.TPM_CAP_NV_INDEX, u32(0x1001)) == encode(areas[1])
    assert prop(machine, c.TPM_CAP_PROP_MAX_NV_AVAILABLE) == machine.tpm.nv.available


def test_an_owner_and_an_active_counter_are_told() -> None:
    machine = started()
    assert prop(machine, c.TPM_CAP_PROP_OWNER) == 0
    assert prop(machine, c.TPM_CAP_PROP_ACTIVE_COUNTER) == 0xFFFFFFFF
    number = machine.tpm.counters.create(b"mine", bytes(20))
    machine.tpm.counters.increment(number)
    assert prop(machine, c.TPM_CAP_PROP_ACTIVE_COUNTER) == number
    machine.tpm.counters.release(number)
    assert prop(machine, c.TPM_CAP_PROP_ACTIVE_COUNTER) == 0xFFFFFFFF
    assert prop(owned(), c.TPM_CAP_PROP_OWNER) == 1


def test_the_defence_against_guessing_is_told_as_far_as_the_owner_wants() -> None:
    machine = owned()
    for _ in range(profile.LOCKOUT_THRESHOLD + 2):
        machine.tpm.lockout.fail()
    told = decode(TPM_DA_INFO, ask(machine, c.TPM_CAP_DA_LOGIC, u16(c.TPM_ET_OWNER)))
    assert (told.state, told.current_count, told.threshold_count, told.action_depend_value) == (
        c.TPM_DA_STATE_ACTIVE, profile.LOCKOUT_THRESHOLD + 2, profile.LOCKOUT_THRESHOLD, 2)
    machine.tpm.flags.set(disable_full_da_logic_info=True)
    limited = decode(TPM_DA_INFO_LIMITED, ask(machine, c.TPM_CAP_DA_LOGIC, u16(c.TPM_ET_OWNER)))
    assert limited.state == c.TPM_DA_STATE_ACTIVE
    machine.clock.advance(2000)
    limited = decode(TPM_DA_INFO_LIMITED, ask(machine, c.TPM_CAP_DA_LOGIC, u16(c.TPM_ET_OWNER)))
    assert limited.state == c.TPM_DA_STATE_INACTIVE


def test_a_tpm_that_failed_tells_version_and_timing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = started()
    monkeypatch.setitem(selftest.TESTS, "HMAC with SHA-1", lambda: False)
    assert len(ask(machine, c.TPM_CAP_VERSION)) == 4  # no test has been needed
    with refused(TPM_FAILEDSELFTEST):
        ask(machine, c.TPM_CAP_FLAG, u32(c.TPM_CAP_FLAG_PERMANENT))
    with refused(TPM_FAILEDSELFTEST):
        machine.run(SelfTestFull())
    for which in c.TPM_CAP_PROP_MANUFACTURER, c.TPM_CAP_PROP_TIS_TIMEOUT, c.TPM_CAP_PROP_DURATION:
        assert prop(machine, which)
    assert ask(machine, c.TPM_CAP_VERSION_VAL)
    with refused(TPM_FAILEDSELFTEST):
        prop(machine, c.TPM_CAP_PROP_PCR)


def test_a_capability_is_signed_with_the_nonce() -> None:
    machine = owned()
    handle = signing_key(machine.client)

    def signed(handle: int, secret: bytes, area: int = c.TPM_CAP_PROPERTY) -> GetCapabilitySignedResponse:
        request = GetCapabilitySigned(handle, NONCE, area, u32(c.TPM_CAP_PROP_PCR))
        return machine.run(request, machine.client.oiap(secret))

    found = signed(handle, KEY_AUTH)
    assert (found.version, found.resp) == (VERSION, u32(profile.NUM_PCR))
    key = machine.tpm.keys.get(handle).key
    key.rsa.verify_pkcs1(ids.SHA1, sha1(found.resp + NONCE).digest(), found.sig)
    with refused(TPM_AUTHFAIL):
        signed(handle, b"?" * 20)
    with refused(TPM_BAD_MODE):
        signed(handle, KEY_AUTH, 0)
    with refused(TPM_INVALID_KEYUSAGE):
        signed(c.TPM_KH_SRK, SRK_AUTH)
    with refused(TPM_INAPPROPRIATE_SIG):
        signed(signing_key(machine.client, INFO_PARMS), KEY_AUTH)


# What the two tell differently because it is their own: identity, timing, limits, what ours does not lose.
OWN = {
    c.TPM_CAP_PROP_MANUFACTURER, c.TPM_CAP_PROP_TIS_TIMEOUT, c.TPM_CAP_PROP_DURATION,
    c.TPM_CAP_PROP_STARTUP_EFFECT, c.TPM_CAP_PROP_MAX_NV_AVAILABLE,
}
LIMITS = {  # of which ours are no lower
    c.TPM_CAP_PROP_KEYS, c.TPM_CAP_PROP_AUTHSESS, c.TPM_CAP_PROP_COUNTERS, c.TPM_CAP_PROP_MAX_AUTHSESS,
    c.TPM_CAP_PROP_MAX_COUNTERS, c.TPM_CAP_PROP_MAX_KEYS, c.TPM_CAP_PROP_CONTEXT, c.TPM_CAP_PROP_MAX_CONTEXT,
    c.TPM_CAP_PROP_FAMILYROWS, c.TPM_CAP_PROP_DELEGATE_ROW, c.TPM_CAP_PROP_TRANSESS,
    c.TPM_CAP_PROP_MAX_TRANSESS, c.TPM_CAP_PROP_SESSIONS, c.TPM_CAP_PROP_MAX_SESSIONS,
    c.TPM_CAP_PROP_DAASESS, c.TPM_CAP_PROP_MAX_DAASESS,
}


def test_both_tell_the_same() -> None:
    with pair() as both:
        both.agree(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        both.agree(PhysicalPresence(c.TPM_PHYSICAL_PRESENCE_PRESENT))
        for area in range(0x20):
            if area == c.TPM_CAP_VERSION_VAL:
                continue
            for sub_cap in b"", b"\1", u16(1), u16(4), u16(99), u32(1), u32(7), u32(99), bytes(5):
                if area not in (c.TPM_CAP_ORD, c.TPM_CAP_HANDLE):
                    both.agree(GetCapability(area, sub_cap))
        for algorithm in range(12):
            both.agree(GetCapability(c.TPM_CAP_TRANS_ALG, u32(algorithm)))
            both.agree(GetCapability(c.TPM_CAP_AUTH_ENCRYPT, u32(algorithm)))
            both.agree(GetCapability(c.TPM_CAP_TRANS_ES, u16(algorithm)))
            both.agree(GetCapability(c.TPM_CAP_PID, u16(algorithm)))
        for which in range(0xFF, 0x128):
            ours, theirs = both.outcomes(GetCapability(c.TPM_CAP_PROPERTY, u32(which)))
            if which in LIMITS:
                assert ours.resp >= theirs.resp, hex(which)  # type: ignore[attr-defined]
            elif which not in OWN:
                assert ours == theirs, hex(which)
        for which in range(0x106, 0x10B):
            both.agree(GetCapability(c.TPM_CAP_FLAG, u32(which)))
        for resource in range(12):
            both.agree(GetCapability(c.TPM_CAP_HANDLE, u32(resource)))
        for sub_cap in (bytes([1, 2, 0, 3]), bytes([1, 2, 0, 4]), bytes([1, 2, 0, 0]), bytes([1, 1, 0, 2]),
                        bytes([2, 2, 0, 2]), bytes([1, 3, 0, 2]), bytes([1, 2, 0])):
            both.agree(GetCapability(c.TPM_CAP_SELECT_SIZE, sub_cap))
        both.agree(GetCapability(c.TPM_CAP_CHECK_LOADED, encode(STORAGE_PARMS)))
        for ordinal in COMMANDS.keys() - MAINTENANCE:
            if ordinal not in (ordinals.TPM_ORD_CertifySelfTest, ordinals.TPM_ORD_GetCapabilitySigned):
                both.agree(GetCapability(c.TPM_CAP_ORD, u32(ordinal)))

"""Somebody on the bus to the chip: he hears no secret, and what he answers himself is noticed."""

from __future__ import annotations

import hmac
import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from hwtpm.client import Password
from hwtpm.errors import ProtocolError, StateError
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.types.constants import (
    TPM_ST_NO_SESSIONS,
    TPM_ST_SESSIONS,
    TPM_CC_CreatePrimary,
    TPM_CC_NV_Increment,
    TPM_CC_NV_Read,
    TPM_CC_PCR_Read,
    TPM_CC_StartAuthSession,
    TPM_CC_Unseal,
)
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm12.types.constants import TPM_TAG_RSP_AUTH1_COMMAND, TPM_TAG_RSP_COMMAND
from hwtpm.tpm12.types.counter import TPM_COUNTER_VALUE
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_OIAP,
    TPM_ORD_CreateCounter,
    TPM_ORD_IncrementCounter,
    TPM_ORD_NV_DefineSpace,
)
from hwtpm.wire import encode
from manager import identity20, sealing12, sealing20
from manager.model import Vtpm
from tests.manager.chips import TestChip, chip_of
from tests.manager.stores import A, B, kept, manager, refused

COUNTS = {"2.0": TPM_CC_NV_Increment, "1.2": TPM_ORD_IncrementCounter}
SESSIONS = {"2.0": TPM_CC_StartAuthSession, "1.2": TPM_ORD_OIAP}
Answer = Callable[[bytes], bytes | None]


@pytest.fixture(params=["own-2.0", "swtpm-2.0"])
def chip20(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestChip]:
    with closing(chip_of(request.param, tmp_path / "chip")) as made:
        yield made


@contextmanager
def between(chip: TestChip, answer: Answer) -> Iterator[None]:
    """Somebody has *answer* given to commands, which do not reach the chip then; None lets one through."""
    real = chip.carry
    chip.carry = lambda command: answer(command) or real(command)  # type: ignore[method-assign]
    try:
        yield
    finally:
        chip.carry = real  # type: ignore[method-assign]


def code_of(command: bytes) -> int:
    return int.from_bytes(command[6:10], "big")


def success(tag: int, body: bytes = b"") -> bytes:
    return tag.to_bytes(2, "big") + (10 + len(body)).to_bytes(4, "big") + bytes(4) + body


def counted_20(command: bytes, how: str) -> bytes:
    """Return the best response to TPM2_NV_Increment that can be had without the counter's secret."""
    if how == "without a session":
        return success(TPM_ST_NO_SESSIONS)
    return success(TPM_ST_SESSIONS, bytes(4) + acknowledged(command, 2, b"", proof=how != "without an HMAC"))


def acknowledged(command: bytes, handles: int, parameters: bytes, *, proof: bool = True) -> bytes:
    """Return the session area of a response with *parameters*, by somebody who knows no secret."""
    # Header, handles, the area's size, the session's handle, and the size of nonceCaller, of 32 octets.
    at = 10 + 4 * handles + 4 + 4 + 2
    nonce, attributes = os.urandom(32), b"\0"
    digest = sha256(bytes(4) + command[6:10] + parameters).digest()
    made = hmac.digest(b"", digest + nonce + command[at : at + 32] + attributes, "sha256") if proof else b""
    return b"\0\x20" + nonce + attributes + len(made).to_bytes(2, "big") + made


def counted_12(command: bytes, how: str) -> bytes:
    """Return the same for TPM_IncrementCounter."""
    value = encode(TPM_COUNTER_VALUE(bytes(4), 7))
    if how == "without a session":
        return success(TPM_TAG_RSP_COMMAND, value)
    # The command ends with nonceOdd, continueAuthSession and the HMAC.
    nonce, odd, ends = os.urandom(20), command[-41:-21], b"\0"
    digest = sha1(bytes(4) + command[6:10] + value).digest()
    proof = bytes(20) if how == "without an HMAC" else hmac.digest(
        bytes(20), digest + nonce + odd + ends, "sha1")
    return success(TPM_TAG_RSP_AUTH1_COMMAND, value + nonce + ends + proof)


COUNTED = {"2.0": counted_20, "1.2": counted_12}


def test_the_secrets_of_counter_and_mask_never_cross(path: Path, any_chip: TestChip) -> None:
    secrets = set()
    for uuid in A, B:
        with closing(manager(path, any_chip)) as opened:
            opened.save_hash_key(uuid, b"1" * 64)
            with opened.change() as change:
                change.put_vtpm(uuid, Vtpm(0, b"2" * 64))
                change.remove_vtpm(uuid)
            secrets |= {opened._ledger.root.counter_auth, opened._ledger.root.mask_auth}
    if any_chip.family == "1.2":
        secrets |= {sealing12._secret(auth) for auth in secrets}
        # Outside of the transport session, who knows the owner's secret could decrypt what these carry.
        assert not {TPM_ORD_CreateCounter, TPM_ORD_NV_DefineSpace} & set(any_chip.codes)
    assert COUNTS[any_chip.family] in any_chip.codes
    assert not any(secret in octets for octets in any_chip.traffic for secret in secrets)


def test_the_owners_password_never_crosses(path: Path, chip20: TestChip) -> None:
    owner = b"the owner's password"
    chip20.client.run(HierarchyChangeAuth(TPM_RH_OWNER, owner), Password())
    chip20.traffic.clear()
    chip20.sealing = identity20.Chip20(chip20.client, os.urandom, sealing20.Secrets(owner))
    with closing(manager(path, chip20)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    with chip20.sealing.conversation(None) as talk:
        talk.define_area(0x01800077, 8, b"a" * 20)
        talk.define_area(0x01800077, 0, b"a" * 20)
    assert TPM_CC_CreatePrimary in chip20.codes
    assert not any(owner in octets for octets in chip20.traffic)


def test_a_chip_that_does_not_know_the_owners_password_is_not_believed(
        path: Path, chip20: TestChip, tmp_path: Path) -> None:
    """Somebody has a chip of his own make the storage key for a first use."""
    chip20.client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"the owner's password"), Password())
    chip20.sealing = identity20.Chip20(chip20.client, os.urandom, sealing20.Secrets(b"the owner's password"))
    with closing(chip_of("own-2.0", tmp_path / "his")) as his:
        def answer(command: bytes) -> bytes | None:
            if code_of(command) != TPM_CC_CreatePrimary:
                return None
            asked = command[18 + int.from_bytes(command[14:18], "big") :]
            password = bytes.fromhex("00000009 40000009 0000 01 0000")
            head = command[:2] + (27 + len(asked)).to_bytes(4, "big") + command[6:14]
            made = his.carry(head + password + asked)
            end = 18 + int.from_bytes(made[14:18], "big")
            return success(TPM_ST_SESSIONS, made[10:end] + acknowledged(command, 1, made[18:end]))

        with between(chip20, answer), pytest.raises(StateError, match="HMAC is wrong"):
            manager(path, chip20)
    chip20.nothing_is_loaded()


@pytest.mark.parametrize("how", ["without a session", "without an HMAC", "with an HMAC of no secret"])
def test_a_count_that_the_chip_never_made_is_noticed(path: Path, any_chip: TestChip, how: str) -> None:
    with closing(manager(path, any_chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    old = path.read_bytes()
    forged = []

    def answer(command: bytes) -> bytes | None:
        if code_of(command) != COUNTS[any_chip.family]:
            return None
        forged.append(command)
        return COUNTED[any_chip.family](command, how)

    opened = manager(path, any_chip)
    with between(any_chip, answer):
        with pytest.raises(ProtocolError, match=r"HMAC is wrong|with tag 0x"):
            opened.save_hash_key(A, b"2" * 64)
        with pytest.raises(ProtocolError):
            opened.load_hash_key(A)  # In doubt, it counts again before it says anything.
    assert (len(forged), opened.saves) == (2, 0)
    any_chip.nothing_is_loaded()
    assert opened.load_hash_key(A) == b"2" * 64
    opened.close()
    path.write_bytes(old)
    refused(path, any_chip, "an old copy of the store was put back")


@pytest.mark.parametrize("session", [False, True], ids=["that only", "and its session"])
def test_a_count_that_was_made_before_is_noticed_when_it_is_played_again(
        path: Path, any_chip: TestChip, session: bool) -> None:
    wanted = {COUNTS[any_chip.family]} | ({SESSIONS[any_chip.family]} if session else set())
    with closing(manager(path, any_chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)  # A TPM 1.2's counter is looked for once.
        any_chip.traffic.clear()
        opened.save_hash_key(A, b"2" * 64)
        seen = any_chip.traffic.copy()
        earlier = {code_of(seen[at]): seen[at + 1] for at in range(0, len(seen), 2)}
        assert wanted <= set(earlier)

        def answer(command: bytes) -> bytes | None:
            return earlier[code_of(command)] if code_of(command) in wanted else None

        with between(any_chip, answer), pytest.raises(ProtocolError, match="HMAC is wrong"):
            opened.save_hash_key(A, b"3" * 64)
        assert opened.saves == 2
    assert kept(path, any_chip, A) == [b"3" * 64]
    any_chip.nothing_is_loaded()


@pytest.mark.parametrize("command", [TPM_CC_NV_Read, TPM_CC_PCR_Read, TPM_CC_Unseal])
def test_what_has_to_have_an_hmac_is_not_believed_without_one(
        path: Path, chip20: TestChip, command: int) -> None:
    """The chip answers a command with sessions in kind: a response without any is somebody else's."""
    kinds = []

    def after(code: int, response: bytes) -> bytes:
        if code != command:
            return response
        kinds.append(response[:2])
        size = int.from_bytes(response[10:14], "big")
        return success(TPM_ST_NO_SESSIONS, response[14 : 14 + size])

    if command != TPM_CC_PCR_Read:  # which is read for the first store
        manager(path, chip20).close()
    chip20.after = after
    with pytest.raises(StateError, match="a TPM response with tag 0x8001"):
        manager(path, chip20)
    assert kinds == [TPM_ST_SESSIONS.to_bytes(2, "big")]
    chip20.mend()
    manager(path, chip20).close()


def test_a_count_that_ends_too_early_is_noticed_wherever_it_does(path: Path, own_chip: TestChip) -> None:
    with closing(manager(path, own_chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
        response = own_chip.traffic[-1]
        number, auth = opened._ledger._identity.counter, opened._ledger.root.counter_auth
        for end in range(len(response)):
            cut = response[:2] + end.to_bytes(4, "big") + response[6:end]

            def answer(command: bytes, cut: bytes = cut) -> bytes | None:
                return cut if code_of(command) == COUNTS[own_chip.family] else None

            with between(own_chip, answer), pytest.raises(ProtocolError):
                own_chip.sealing.increment(number, auth)
        own_chip.nothing_is_loaded()
    assert kept(path, own_chip, A) == [b"1" * 64]


def test_responses_that_end_too_early_are_one_clear_line(path: Path, own_chip: TestChip) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    with closing(manager(path, own_chip)) as opened:
        opened.save_hash_key(A, b"1" * 64)
    own_chip.traffic.clear()
    manager(path, own_chip).close()
    responses = own_chip.traffic[1::2]
    for _ in range(60):
        left = [chosen.randrange(len(responses) - 1)]  # The last one flushes, and says nothing.
        end = chosen.randrange(len(responses[left[0]]))

        def after(code: int, response: bytes, left: list[int] = left, end: int = end) -> bytes:
            left[0] -= 1
            return response if left[0] != -1 else response[:2] + end.to_bytes(4, "big") + response[6:end]

        own_chip.after = after
        with pytest.raises(StateError) as caught:
            manager(path, own_chip)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        own_chip.mend()
        own_chip.power_cycle()  # type: ignore[attr-defined]
    assert kept(path, own_chip, A) == [b"1" * 64]

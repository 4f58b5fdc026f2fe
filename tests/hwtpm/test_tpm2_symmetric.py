"""Symmetric encryption (Part 3, 15.2 and 15.3), alone and beside swtpm."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwtpm.client import Password
from hwtpm.crypto import symmetric
from hwtpm.tpm2.requests.symmetric import EncryptDecrypt, EncryptDecrypt2
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CBC,
    TPM_ALG_CFB,
    TPM_ALG_CTR,
    TPM_ALG_ECB,
    TPM_ALG_NULL,
    TPM_ALG_OFB,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_MODE,
    TPM_RC_SIZE,
)
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_keys import DECRYPT, SIGN, Areas, cipher, create_primary, load, rsa, storage_template
from tests.support.tpm2_pair import Pair, run

H1, P1, P2, P3, P4 = 0x100, 0x140, 0x240, 0x340, 0x440
BOTH = SIGN | DECRYPT
STREAMS = (TPM_ALG_CTR, TPM_ALG_OFB, TPM_ALG_CFB)
MODES = (*STREAMS, TPM_ALG_CBC, TPM_ALG_ECB)
IV = bytes(range(240, 256))


def iv_of(mode: int, iv: bytes = IV) -> bytes:
    return b"" if mode == TPM_ALG_ECB else iv


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize("size", [0, 16, 48, 1024])
def test_encryption_and_chaining_are_those_of_swtpm(pair: Pair, mode: int, bits: int, size: int) -> None:
    data = bytes(i * 7 & 0xFF for i in range(size))
    with pair.loaded(cipher(BOTH, bits=bits)) as key:
        for decrypt in (0, 1):
            ours, theirs = pair.answers(EncryptDecrypt2(key, data, decrypt, mode, iv_of(mode)))
            assert (ours.out_data, ours.iv_out) == (theirs.out_data, theirs.iv_out)


@pytest.mark.parametrize("mode", STREAMS)
@pytest.mark.parametrize("size", [1, 15, 17, 40])
def test_data_of_any_size_are_those_of_swtpm(pair: Pair, mode: int, size: int) -> None:
    """The chaining value after a part of a block is not compared: nothing can be chained to it."""
    data = bytes(range(size))
    with pair.loaded(cipher(BOTH)) as key:
        for decrypt in (0, 1):
            ours, theirs = pair.answers(EncryptDecrypt2(key, data, decrypt, mode, IV))
            assert ours.out_data == theirs.out_data
            assert len(ours.iv_out) == 16


@pytest.fixture(scope="module")
def keyed() -> tuple[Machine, int]:
    machine = started()
    return machine, load(machine.client, cipher(BOTH))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(mode=st.sampled_from(MODES), first=st.integers(0, 8), data=st.binary(max_size=160),
       iv=st.binary(min_size=16, max_size=16))
def test_parts_chained_by_iv_out_equal_the_whole(keyed: tuple[Machine, int], mode: int, first: int,
                                                 data: bytes, iv: bytes) -> None:
    machine, key = keyed
    if mode not in STREAMS:
        data = data[: len(data) // 16 * 16]
    cut = min(first * 16, len(data) // 16 * 16)
    whole = run(machine.client, EncryptDecrypt2(key, data, 0, mode, iv_of(mode, iv))).out_data
    head = run(machine.client, EncryptDecrypt2(key, data[:cut], 0, mode, iv_of(mode, iv)))
    tail = run(machine.client, EncryptDecrypt2(key, data[cut:], 0, mode, head.iv_out))
    assert head.out_data + tail.out_data == whole
    back = run(machine.client, EncryptDecrypt2(key, whole, 1, mode, iv_of(mode, iv)))
    assert back.out_data == data


def test_the_deprecated_command_does_the_same(pair: Pair) -> None:
    with pair.loaded(cipher(BOTH, TPM_ALG_CBC)) as key:
        new = run(pair.ours, EncryptDecrypt2(key, bytes(32), 0, TPM_ALG_NULL, IV))
        old, theirs = pair.answers(EncryptDecrypt(key, 0, TPM_ALG_NULL, IV, bytes(32)))
        assert old == theirs
        assert (old.out_data, old.iv_out) == (new.out_data, new.iv_out)


@pytest.mark.parametrize(("areas", "decrypt", "mode", "iv", "size", "rc"), [
    (rsa(DECRYPT), 0, TPM_ALG_CFB, IV, 16, TPM_RC_KEY + H1),
    (cipher(SIGN), 1, TPM_ALG_CFB, IV, 16, TPM_RC_ATTRIBUTES + H1),
    (cipher(DECRYPT), 0, TPM_ALG_CFB, IV, 16, TPM_RC_ATTRIBUTES + H1),
    (cipher(SIGN), 0, TPM_ALG_CFB, IV, 16, 0),
    (cipher(DECRYPT), 1, TPM_ALG_CFB, IV, 16, 0),
    (cipher(BOTH), 0, TPM_ALG_NULL, IV, 16, TPM_RC_MODE + P3),
    (cipher(BOTH), 0, 0x45, IV, 16, TPM_RC_MODE + P3),
    (cipher(BOTH, TPM_ALG_CBC), 0, TPM_ALG_NULL, IV, 16, 0),
    (cipher(BOTH, TPM_ALG_CBC), 0, TPM_ALG_CBC, IV, 16, 0),
    (cipher(BOTH, TPM_ALG_CBC), 0, TPM_ALG_CFB, IV, 16, TPM_RC_MODE + P3),
    (cipher(BOTH, TPM_ALG_CBC), 0, TPM_ALG_CFB, b"", 16, TPM_RC_MODE + P3),
    (cipher(BOTH), 0, TPM_ALG_CFB, b"", 16, TPM_RC_SIZE + P4),
    (cipher(BOTH), 0, TPM_ALG_CTR, IV[:15], 16, TPM_RC_SIZE + P4),
    (cipher(BOTH), 0, TPM_ALG_ECB, IV, 16, TPM_RC_SIZE + P4),
    (cipher(BOTH), 0, TPM_ALG_CBC, IV[:8], 15, TPM_RC_SIZE + P4),
    (cipher(BOTH), 0, TPM_ALG_CBC, IV, 15, TPM_RC_SIZE + P1),
    (cipher(BOTH), 1, TPM_ALG_CBC, IV, 17, TPM_RC_SIZE + P1),
    (cipher(BOTH), 0, TPM_ALG_ECB, b"", 1, TPM_RC_SIZE + P1),
    (cipher(BOTH), 0, TPM_ALG_CFB, IV, 1025, TPM_RC_SIZE + P1),
])
def test_codes(pair: Pair, areas: Areas, decrypt: int, mode: int, iv: bytes, size: int, rc: int) -> None:
    with pair.loaded(areas) as key:
        assert pair.codes(EncryptDecrypt2(key, bytes(size), decrypt, mode, iv)) == (rc, rc)
        moved = {TPM_RC_MODE + P3: TPM_RC_MODE + P2, TPM_RC_SIZE + P4: TPM_RC_SIZE + P3,
                 TPM_RC_SIZE + P1: TPM_RC_SIZE + P4}.get(rc, rc)
        assert pair.codes(EncryptDecrypt(key, decrypt, mode, iv, bytes(size))) == (moved, moved)


def test_a_storage_key_encrypts_nothing(machine: Machine) -> None:
    parent = create_primary(machine.client, storage_template())
    with refused(TPM_RC_KEY + H1):
        run(machine.client, EncryptDecrypt2(parent, b"", 0, TPM_ALG_CFB, IV))


@pytest.mark.parametrize("mode", MODES)
def test_aes_192_which_swtpm_does_not_have(machine: Machine, mode: int) -> None:
    key = load(machine.client, cipher(BOTH, bits=192))
    sent = run(machine.client, EncryptDecrypt2(key, bytes(32), 0, mode, iv_of(mode)))
    assert sent.out_data == symmetric.encrypt(TPM_ALG_AES, mode, bytes(range(24)), iv_of(mode), bytes(32))[0]
    back = run(machine.client, EncryptDecrypt2(key, sent.out_data, 1, mode, iv_of(mode)))
    assert back.out_data == bytes(32)


def test_data_pass_a_session_encrypted_both_ways(machine: Machine) -> None:
    """Part 3, 15.3: inData comes first so that a session can encrypt it."""
    key = load(machine.client, cipher(BOTH))
    clear = run(machine.client, EncryptDecrypt2(key, b"secret", 0, TPM_ALG_CFB, IV))
    session = machine.client.start_session(symmetric_definition=TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB))
    session.attributes = TPMA_SESSION_CONTINUESESSION | TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT
    sent = machine.client.run(EncryptDecrypt2(key, b"secret", 0, TPM_ALG_CFB, IV), Password(), session)
    assert sent == clear

"""The SHA-1 thread of TPM 1.2 (Part 3, 13.1 to 13.4)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1CompleteExtend, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import PcrRead
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.types.codes import (
    TPM_BAD_LOCALITY,
    TPM_BAD_ORDINAL,
    TPM_BADINDEX,
    TPM_SHA_ERROR,
    TPM_SHA_THREAD,
)
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR, TPM_ST_STATE
from tests.support.tpm2 import refused
from tests.support.tpm12 import Machine, started
from tests.support.tpm12_pair import pair

BLOCK = bytes(range(64))


@pytest.mark.parametrize("last", [b"", b"x", BLOCK[:63], BLOCK])
@pytest.mark.parametrize("blocks", [0, 1, 63, 500])
def test_a_thread_gives_the_sha_1_of_its_octets(blocks: int, last: bytes) -> None:
    machine = started()
    most = machine.run(SHA1Start()).max_num_bytes // 64
    assert most >= 1
    left = blocks
    while left:
        machine.run(SHA1Update(BLOCK * min(left, most)))
        left -= min(left, most)
    assert machine.run(SHA1Complete(last)).hash_value == sha1(BLOCK * blocks + last).digest()
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Complete(b""))


def test_a_thread_extends_a_pcr() -> None:
    machine = started()
    machine.run(SHA1Start())
    machine.run(SHA1Update(BLOCK))
    done = machine.run(SHA1CompleteExtend(9, b"end"))
    assert done.hash_value == sha1(BLOCK + b"end").digest()
    assert done.out_digest == sha1(bytes(20) + done.hash_value).digest() == machine.run(PcrRead(9)).out_digest


def test_a_disabled_tpm_extends_and_shows_the_hash_only() -> None:
    machine = Machine()
    machine.run(Startup(TPM_ST_CLEAR))
    machine.run(SHA1Start())
    done = machine.run(SHA1CompleteExtend(9, b"end"))
    assert done.hash_value == sha1(b"end").digest()
    assert done.out_digest == bytes(20) != machine.tpm.pcrs.values[9]


@pytest.mark.parametrize("size", [1, 63, 65, 4096 - 14 + 1])
def test_only_whole_blocks_up_to_the_limit_go_on(size: int) -> None:
    machine = started()
    machine.run(SHA1Start())
    with refused(TPM_SHA_ERROR):
        machine.run(SHA1Update(bytes(size)))
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Update(BLOCK))


def test_the_limit_is_what_the_start_tells() -> None:
    machine = started()
    most = machine.run(SHA1Start()).max_num_bytes
    machine.run(SHA1Update(bytes(most)))
    with refused(TPM_SHA_ERROR):
        machine.run(SHA1Update(bytes(most + 64)))


@pytest.mark.parametrize(("number", "rc"), [(24, TPM_BADINDEX), (17, TPM_BAD_LOCALITY)])
def test_a_pcr_that_cannot_be_extended_ends_the_thread(number: int, rc: int) -> None:
    machine = started()
    machine.run(SHA1Start())
    with refused(rc):
        machine.run(SHA1CompleteExtend(number, b""))
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Complete(b""))


def test_any_other_command_ends_the_thread() -> None:
    machine = started()
    machine.run(SHA1Start())
    machine.run(GetRandom(1))
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Update(BLOCK))
    machine.run(SHA1Start())
    assert machine.execute(bytes.fromhex("00c1 0000000a 00000fff"))[6:] == TPM_BAD_ORDINAL.to_bytes(4, "big")
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Update(BLOCK))


def test_a_thread_stays_in_its_transport_session() -> None:
    from hwtpm.tpm12.context import COMMANDS
    from hwtpm.tpm12.dispatch import prepare

    machine = started()
    plan = COMMANDS[SHA1Update.ORD].compiled()
    for transport in 0, 7:
        machine.tpm.sha1.begin(transport)
        prepare(machine.tpm, plan, transport)
        assert machine.tpm.sha1.running is not None
        prepare(machine.tpm, plan, 7 - transport)
        assert machine.tpm.sha1.running is None


def test_a_thread_goes_on_in_a_tpm_that_moved_and_not_in_one_that_slept() -> None:
    machine, other = started(), started()
    machine.run(SHA1Start())
    machine.run(SHA1Update(BLOCK * 3))
    other.tpm.sha1.restore_volatile(machine.tpm.sha1.save_volatile())
    other.run(SHA1Update(BLOCK))
    assert other.run(SHA1Complete(b"end")).hash_value == sha1(BLOCK * 4 + b"end").digest()
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    with refused(TPM_SHA_THREAD):
        machine.run(SHA1Update(BLOCK))


def test_both_say_the_same_of_sha_1_threads() -> None:
    with pair() as both:
        for request in (
            SHA1Start(), SHA1Update(BLOCK), SHA1Update(b""), SHA1Complete(b"x" * 64), SHA1Complete(b""),
            SHA1Start(), SHA1Complete(b"x" * 65), SHA1Complete(b""), SHA1Start(), SHA1Update(b"x"),
            SHA1Update(BLOCK), SHA1Start(), SHA1CompleteExtend(3, b"abc"), SHA1CompleteExtend(3, b"abc"),
            SHA1Start(), SHA1CompleteExtend(24, b""), SHA1Update(BLOCK), SHA1Start(),
            SHA1CompleteExtend(18, b""), SHA1Update(BLOCK), SHA1Start(), SHA1Start(), SHA1Update(BLOCK * 63),
            PcrRead(3), SHA1Update(BLOCK), SHA1Start(), GetRandom(0), SHA1Complete(b""), SHA1Start(),
            PcrRead(30), SHA1Complete(b""),
        ):
            both.agree(request)

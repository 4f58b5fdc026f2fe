"""Hash, HMAC and the sequences of both and of events (Part 3, 15.4, 15.5 and 17)."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from hwtpm.client import Password
from hwtpm.crypto import hashes
from hwtpm.crypto.running import KEPT
from hwtpm.tpm2.profile import HASHES, MAX_LOADED_OBJECTS, PCR_BANKS
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    HashSequenceStart,
    HMACStart,
    MACStart,
    SequenceComplete,
    SequenceCompleteResponse,
    SequenceUpdate,
)
from hwtpm.tpm2.requests.startup import Shutdown, Startup
from hwtpm.tpm2.requests.symmetric import HMAC, MAC, Hash
from hwtpm.tpm2.state.pcr import selection
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_USERWITHAUTH,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_CMAC,
    TPM_ALG_HMAC,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_RC_ATTRIBUTES,
    TPM_RC_BAD_AUTH,
    TPM_RC_HASH,
    TPM_RC_INTEGRITY,
    TPM_RC_KEY,
    TPM_RC_LOCALITY,
    TPM_RC_MODE,
    TPM_RC_OBJECT_MEMORY,
    TPM_RC_REFERENCE_H0,
    TPM_RC_SCHEME,
    TPM_RC_SEQUENCE,
    TPM_RC_SIZE,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
    TPM_SU_CLEAR,
    TPM_SU_STATE,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_keys import cipher, create_primary, keyed_hash, load

GENERATED = b"\xffTCG"
USE = TPMA_OBJECT_SIGN | TPMA_OBJECT_USERWITHAUTH
H1, H2, P1, P2, S1 = 0x100, 0x200, 0x140, 0x240, 0x900


def start(machine: Machine, alg: int = TPM_ALG_SHA256, auth: bytes = b"") -> int:
    return machine.run(HashSequenceStart(auth, alg)).sequence_handle


def update(machine: Machine, handle: int, data: bytes) -> None:
    machine.run(SequenceUpdate(handle, data), Password())


def complete(machine: Machine, handle: int, data: bytes = b"",
             hierarchy: int = TPM_RH_OWNER) -> SequenceCompleteResponse:
    return machine.run(SequenceComplete(handle, data, hierarchy), Password())


@pytest.mark.parametrize("alg", sorted(HASHES))
def test_hash(alg: int) -> None:
    name = {4: "sha1", 0xB: "sha256", 0xC: "sha384", 0xD: "sha512", 0x12: "sm3", 0x27: "sha3_256",
            0x28: "sha3_384", 0x29: "sha3_512"}[alg]
    found = started().run(Hash(b"abc", alg, TPM_RH_NULL))
    assert found.out_hash == hashlib.new(name, b"abc").digest()
    assert found.validation.hierarchy == TPM_RH_NULL
    assert found.validation.digest == b""


@pytest.mark.parametrize(("data", "safe"), [(b"", True), (b"\xff", True), (GENERATED[:3] + b"X", True),
                                            (GENERATED, False), (GENERATED + b"more", False)])
def test_hash_gives_a_ticket_unless_generated(data: bytes, safe: bool) -> None:
    ticket = started().run(Hash(data, TPM_ALG_SHA256, TPM_RH_OWNER)).validation
    assert (ticket.hierarchy == TPM_RH_OWNER) is safe
    assert len(ticket.digest) == (64 if safe else 0)


def test_tickets_differ_by_hierarchy_and_digest() -> None:
    machine = started()
    tickets = {machine.run(Hash(data, TPM_ALG_SHA256, hierarchy)).validation.digest
               for data in (b"a", b"b") for hierarchy in (TPM_RH_OWNER, TPM_RH_ENDORSEMENT)}
    assert len(tickets) == 4


def test_a_sequence_gives_the_hash_and_ticket_of_the_whole() -> None:
    machine = started()
    handle = start(machine)
    update(machine, handle, b"a" * 1024)
    update(machine, handle, b"b" * 3)
    found = complete(machine, handle, b"end")
    assert found.result == hashlib.sha256(b"a" * 1024 + b"bbbend").digest()
    whole = machine.run(Hash(b"x", TPM_ALG_SHA256, TPM_RH_OWNER)).validation
    assert found.validation.hierarchy == whole.hierarchy
    with refused(TPM_RC_REFERENCE_H0):
        complete(machine, handle)


@pytest.mark.parametrize(("first", "rest", "safe"), [
    (b"abcd", b"", True), (b"abc", b"defg", False), (b"", b"abcd", False), (GENERATED, b"", False),
    (b"abcd", GENERATED, True), (None, b"abcd", True), (None, b"abc", False), (None, GENERATED, False),
])
def test_the_first_block_decides_on_the_ticket(first: bytes | None, rest: bytes, safe: bool) -> None:
    machine = started()
    handle = start(machine)
    if first is not None:
        update(machine, handle, first)
    assert (complete(machine, handle, rest).validation.hierarchy == TPM_RH_OWNER) is safe


def test_a_sequence_is_used_with_its_auth_value() -> None:
    machine = started()
    handle = start(machine, auth=b"secret")
    with refused(TPM_RC_BAD_AUTH | S1):
        update(machine, handle, b"abc")
    machine.run(SequenceUpdate(handle, b"abc"), Password(b"secret"))
    with refused(TPM_RC_HASH | P2):
        machine.run(HashSequenceStart(b"", 1))
    with refused(TPM_RC_SIZE | P1):
        machine.run(HashSequenceStart(bytes(65), TPM_ALG_SHA256))


def test_sequences_take_transient_handles() -> None:
    machine = started()
    handles = [start(machine) for _ in range(MAX_LOADED_OBJECTS)]
    assert handles == list(range(0x80000000, 0x80000000 + MAX_LOADED_OBJECTS))
    with refused(TPM_RC_OBJECT_MEMORY):
        start(machine)
    machine.run(FlushContext(handles[3]))
    assert start(machine) == handles[3]
    with refused(TPM_RC_SEQUENCE):
        machine.run(ReadPublic(handles[0]))


def test_event_sequence_extends_and_returns_every_hash() -> None:
    machine = started()
    handle = start(machine, TPM_ALG_NULL)
    update(machine, handle, b"an ")
    with refused(TPM_RC_MODE | H1):
        complete(machine, handle)
    with refused(TPM_RC_LOCALITY):
        machine.run(EventSequenceComplete(17, handle, b"event"), Password(), Password())
    found = machine.run(EventSequenceComplete(4, handle, b"event"), Password(), Password()).results
    assert [d.hash_alg for d in found] == list(PCR_BANKS)  # Part 3, 17.4.1
    assert found[1].digest == hashlib.sha256(b"an event").digest()
    value = machine.run(PCRRead([selection(TPM_ALG_SHA256, 1 << 4)])).pcr_values[0]
    assert value == hashlib.sha256(bytes(32) + found[1].digest).digest()
    with refused(TPM_RC_REFERENCE_H0):
        update(machine, handle, b"")


def test_event_sequence_without_a_pcr_only_hashes() -> None:
    machine = started()
    before = machine.run(PCRRead([])).pcr_update_counter
    handle = start(machine, TPM_ALG_NULL)
    machine.run(EventSequenceComplete(TPM_RH_NULL, handle, b""), Password(), Password())
    assert machine.run(PCRRead([])).pcr_update_counter == before


def test_only_event_sequences_complete_as_events() -> None:
    machine = started()
    with refused(TPM_RC_MODE | H2):
        machine.run(EventSequenceComplete(4, start(machine), b""), Password(), Password())


def test_hmac_and_its_sequence() -> None:
    machine = started()
    areas = keyed_hash(USE)
    key = load(machine.client, areas)
    secret = machine.tpm.objects.get(key).sensitive.sensitive
    expected = hmac.digest(secret, b"some data", "sha256")
    for alg in (TPM_ALG_SHA256, TPM_ALG_NULL):
        assert machine.run(HMAC(key, b"some data", alg), Password()).out_hmac == expected
        handle = machine.run(HMACStart(key, b"", alg), Password()).sequence_handle
        update(machine, handle, b"some ")
        found = complete(machine, handle, b"data")
        assert found.result == expected
        assert found.validation.hierarchy == TPM_RH_NULL
    for request in (HMAC(key, b"", TPM_ALG_SHA1), HMACStart(key, b"", TPM_ALG_SHA1)):
        with refused(TPM_RC_VALUE | P2):
            machine.run(request, Password())


def test_hmac_of_a_key_without_scheme_needs_an_algorithm() -> None:
    machine = started()
    key = load(machine.client, keyed_hash(USE | TPMA_OBJECT_DECRYPT, TPM_ALG_NULL, TPM_ALG_NULL))
    machine.run(HMAC(key, b"", TPM_ALG_SHA384), Password())
    with refused(TPM_RC_VALUE | P2):
        machine.run(HMAC(key, b"", TPM_ALG_NULL), Password())


def test_hmac_refuses_other_objects() -> None:
    machine = started()
    run, sequence = machine.run, start(machine)
    other = load(machine.client, cipher(TPMA_OBJECT_DECRYPT | TPMA_OBJECT_USERWITHAUTH))
    template = keyed_hash(USE | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_SENSITIVEDATAORIGIN
                          | TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT)[0]
    restricted = create_primary(machine.client, template)
    data = load(machine.client, keyed_hash(TPMA_OBJECT_USERWITHAUTH, TPM_ALG_NULL, TPM_ALG_NULL))
    for handle, rc in ((sequence, TPM_RC_TYPE | H1), (other, TPM_RC_SCHEME | P2),
                       (restricted, TPM_RC_ATTRIBUTES | H1), (data, TPM_RC_KEY | H1)):
        for request in (HMAC(handle, b"", TPM_ALG_SHA256), HMACStart(handle, b"", TPM_ALG_SHA256)):
            with refused(rc):
                run(request, Password())
        if handle != sequence:
            with refused(TPM_RC_MODE | H1):
                update(machine, handle, b"")
            with refused(TPM_RC_MODE | H1):
                complete(machine, handle)


def test_a_saved_sequence_goes_on_from_where_it_was_saved() -> None:
    machine = started()
    handle = start(machine)
    update(machine, handle, b"first")
    context = machine.run(ContextSave(handle)).context
    update(machine, handle, b" other")
    for _ in range(2):
        again = machine.run(ContextLoad(context)).loaded_handle
        assert complete(machine, again, b" last").result == hashlib.sha256(b"first last").digest()
    assert complete(machine, handle).result == hashlib.sha256(b"first other").digest()


@pytest.mark.parametrize(("last", "next_", "rc"), [
    (TPM_SU_STATE, TPM_SU_STATE, 0),  # TPM Resume
    (TPM_SU_STATE, TPM_SU_CLEAR, 0),  # TPM Restart
    (TPM_SU_CLEAR, TPM_SU_CLEAR, TPM_RC_INTEGRITY | P1),  # TPM Reset
])
def test_a_saved_sequence_lives_until_a_reset(last: int, next_: int, rc: int) -> None:
    """Part 1, 27.4: only a TPM Reset invalidates saved object contexts, and sequences are treated alike."""
    machine = started()
    handle = start(machine, auth=b"auth")
    machine.run(SequenceUpdate(handle, b"x" * 1000), Password(b"auth"))
    context = machine.run(ContextSave(handle)).context
    machine.run(Shutdown(last))
    machine.power_cycle()
    machine.run(Startup(next_))
    if rc:
        with refused(rc):
            machine.run(ContextLoad(context))
        return
    again = machine.run(ContextLoad(context)).loaded_handle
    found = machine.run(SequenceComplete(again, b"y", TPM_RH_OWNER), Password(b"auth"))
    assert found.result == hashlib.sha256(b"x" * 1000 + b"y").digest()
    assert found.validation.digest


def test_every_kind_of_sequence_goes_on_from_a_context() -> None:
    """The context is all there is: the sequence itself is flushed."""
    machine = started()
    hmac_key = load(machine.client, keyed_hash(USE, TPM_ALG_HMAC, TPM_ALG_SHA384, secret=b"key"))
    cmac_key = load(machine.client, cipher(USE, mode=TPM_ALG_CMAC))
    message = bytes(range(256)) * 3
    cmac = machine.run(MAC(cmac_key, message, TPM_ALG_NULL), Password()).out_mac
    started_as = {
        machine.run(HashSequenceStart(b"", alg)).sequence_handle: hashes.digest(alg, message)
        for alg in sorted(HASHES)
    }
    started_as[machine.run(HMACStart(hmac_key, b"", TPM_ALG_NULL), Password()).sequence_handle] = (
        hmac.digest(b"key", message, "sha384"))
    started_as[machine.run(MACStart(cmac_key, b"", TPM_ALG_NULL), Password()).sequence_handle] = cmac
    for handle, expected in started_as.items():
        update(machine, handle, message[:100])
        update(machine, handle, message[100:500])
        context = machine.run(ContextSave(handle)).context
        machine.run(FlushContext(handle))
        handle = machine.run(ContextLoad(context)).loaded_handle
        update(machine, handle, message[500:600])
        assert complete(machine, handle, message[600:]).result == expected
    handle = start(machine, TPM_ALG_NULL)
    update(machine, handle, message[:500])
    context = machine.run(ContextSave(handle)).context
    machine.run(FlushContext(handle))
    handle = machine.run(ContextLoad(context)).loaded_handle
    ended = machine.run(EventSequenceComplete(TPM_RH_NULL, handle, message[500:]), Password(), Password())
    assert [d.digest for d in ended.results] == [hashes.digest(d.hash_alg, message) for d in ended.results]


@pytest.mark.parametrize("alg", sorted(HASHES))
def test_a_resource_manager_may_save_a_sequence_around_every_command(alg: int) -> None:
    machine = started()
    handle, message = start(machine, alg), b""
    for number in range(40):
        part = bytes([number]) * (number * 7)
        context = machine.run(ContextSave(handle)).context
        machine.run(FlushContext(handle))
        handle = machine.run(ContextLoad(context)).loaded_handle
        update(machine, handle, part)
        message += part
    assert complete(machine, handle).result == hashes.digest(alg, message)


def test_a_long_sequence_keeps_a_bounded_memory() -> None:
    machine = started()
    handle, whole = start(machine, TPM_ALG_NULL), hashlib.sha256()
    part = bytes(1024)
    for _ in range(200):
        update(machine, handle, part)
        whole.update(part)
    assert len(machine.tpm.objects.get(handle).encode()) < 1000
    kept = [len(running._rest) for running in machine.tpm.objects.get(handle)._hashes]
    assert max(kept) <= KEPT
    ended = machine.run(EventSequenceComplete(TPM_RH_NULL, handle, b""), Password(), Password())
    assert {d.hash_alg: d.digest for d in ended.results}[TPM_ALG_SHA256] == whole.digest()

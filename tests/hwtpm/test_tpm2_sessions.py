"""Sessions: keys, nonces, HMACs, encryption and audit (Part 1, 16 to 18; Part 3, 11)."""

from __future__ import annotations

import os

import pytest

from hwtpm.client import Client, Password, Session
from hwtpm.crypto import hashes
from hwtpm.crypto.ecc import EccPrivate
from hwtpm.crypto.kdf import kdfe
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.profile import MAX_ACTIVE_SESSIONS, MAX_LOADED_SESSIONS
from hwtpm.tpm2.requests.context import ContextSave, FlushContext
from hwtpm.tpm2.requests.hierarchy import HierarchyChangeAuth
from hwtpm.tpm2.requests.nv import NVRead, NVWrite
from hwtpm.tpm2.requests.object import ReadPublic, Unseal
from hwtpm.tpm2.requests.pcr import PCRExtend, PCRRead
from hwtpm.tpm2.requests.random import GetRandom, StirRandom
from hwtpm.tpm2.requests.session import PolicyRestart, StartAuthSession
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.state.sessions import Session as Held
from hwtpm.tpm2.state.sessions import Sessions
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_AUDITEXCLUSIVE,
    TPMA_SESSION_AUDITRESET,
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CBC,
    TPM_ALG_CFB,
    TPM_ALG_NULL,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ALG_SHA384,
    TPM_ALG_XOR,
    TPM_RC_ATTRIBUTES,
    TPM_RC_BAD_AUTH,
    TPM_RC_EXCLUSIVE,
    TPM_RC_HANDLE,
    TPM_RC_KEY,
    TPM_RC_MODE,
    TPM_RC_REFERENCE_S0,
    TPM_RC_SESSION_HANDLES,
    TPM_RC_SESSION_MEMORY,
    TPM_RC_SIZE,
    TPM_RC_SYMMETRIC,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_SE_TRIAL,
    TPM_SU_CLEAR,
)
from hwtpm.tpm2.types.handles import TPM_RH_LOCKOUT, TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMT_SENSITIVE
from hwtpm.tpm2.types.structures import TPMT_HA
from hwtpm.wire import decode, encode
from tests.support import tpm2_keys as keys
from tests.support.tpm2 import Machine, refused, started
from tests.support.tpm2_either import INDEX, Recording, rename, written

AES128 = TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB)
AES256 = TPMT_SYM_DEF(TPM_ALG_AES, 256, TPM_ALG_CFB)
XOR = TPMT_SYM_DEF(TPM_ALG_XOR, TPM_ALG_SHA256)
NO_CIPHER = TPMT_SYM_DEF(TPM_ALG_NULL)
SECRETS = bytes(range(16))
KEEP = TPMA_SESSION_CONTINUESESSION


def using(session: Session, auth: bytes = b"", attributes: int = KEEP, *, bound: bool = False) -> Session:
    session.auth, session.attributes, session.bound = auth, attributes, bound
    return session


def read(client: Client, *sessions: Session | Password, index: int = INDEX) -> bytes:
    return client.run(NVRead(index, index, 16, 0), *sessions).data


def salted(client: Client, handle: int, salt: bytes) -> tuple[bytes, bytes]:
    """Return a salt and how it is conveyed to the key at *handle*."""
    public = client.run(ReadPublic(handle)).out_public
    if isinstance(public.unique, bytes):
        return salt, RsaPublic(public.unique).encrypt_oaep(public.name_alg, b"SECRET\0", salt)
    ours = EccPrivate(3, 0x1234567)
    x, y = ours.public
    z = ours.shared_x(public.unique.x, public.unique.y)
    salt = kdfe(public.name_alg, z, b"SECRET", x, public.unique.x, hashes.size(public.name_alg) * 8)
    return salt, encode(TPMS_ECC_POINT(x, y))


def test_unbound_session_proves_the_auth_value_of_an_index(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session()
    for _ in range(3):
        before = session.nonce_tpm
        assert read(client, using(session, b"pin")) == SECRETS
        assert session.nonce_tpm != before, "the nonce rolls"


@pytest.mark.parametrize("alg", [TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384])
def test_trailing_zeros_of_an_auth_value_do_not_count(client: Client, alg: int) -> None:
    written(client, b"pin\0\0")
    session = client.start_session(auth_hash=alg)
    assert read(client, using(session, b"pin")) == SECRETS
    assert read(client, Password(b"pin\0\0\0")) == SECRETS


def test_the_client_believes_no_response_without_the_sessions_of_its_command(machine: Machine) -> None:
    """A response to a command with sessions has them too, as its tag has to say (Part 3, 6.1)."""
    written(machine.client, b"pin")
    session = machine.client.start_session()
    good = []

    def between(command: bytes) -> bytes:
        good[:] = [machine.execute(command)]
        size = int.from_bytes(good[0][10:14], "big")
        return b"\x80\x01" + (10 + size).to_bytes(4, "big") + bytes(4) + good[0][14 : 14 + size]

    client = Client(between, os.urandom)
    client.names = machine.client.names
    with pytest.raises(ProtocolError, match="tag 0x8001"):
        read(client, using(session, b"pin"))
    with pytest.raises(ProtocolError, match="tag 0x8002"):
        Client(lambda command: good[0], os.urandom).run(GetRandom(16))


def test_a_response_that_ends_too_early_is_a_protocol_error(machine: Machine) -> None:
    written(machine.client, b"pin")

    def cut(end: int) -> bytes:
        def between(command: bytes) -> bytes:
            response = machine.execute(command)
            return response[:2] + end.to_bytes(4, "big") + response[6:end]

        client = Client(between, os.urandom)
        client.names = machine.client.names
        return read(client, using(machine.client.start_session(), b"pin", 0))

    whole = 10 + 4 + 18 + 2 + 32 + 1 + 2 + 32
    for end in range(whole):
        with pytest.raises(ProtocolError):
            cut(end)
    assert cut(whole) == SECRETS


def test_sessions_authorize_a_hierarchy_an_object_and_a_pcr(client: Client) -> None:
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"owner"), Password())
    session = client.start_session()
    # The response is proved with the authValue as the command left it, which this client does not expect.
    with pytest.raises(ProtocolError, match="HMAC"):
        client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"new"), using(session, b"owner"))
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b""), Password(b"new"))
    sealed = keys.load(client, _sealed(b"object"))
    assert client.run(Unseal(sealed), using(session, b"object")).out_data == b"content"
    digest = [TPMT_HA(TPM_ALG_SHA256, bytes(32))]
    client.run(PCRExtend(16, digest), using(session))


def _sealed(auth: bytes) -> keys.Areas:
    public, sensitive = keys.keyed_hash(0, TPM_ALG_NULL, TPM_ALG_NULL, secret=b"content")
    return public, TPMT_SENSITIVE(sensitive.sensitive_type, auth, sensitive.seed_value, sensitive.sensitive)


def test_a_bound_session_does_not_ask_for_the_auth_value_again(client: Client) -> None:
    written(client, b"pin")
    written(client, b"other", handle=INDEX + 1)
    session = client.start_session(bind=INDEX, bind_auth=b"pin")
    assert read(client, using(session, b"pin", bound=True)) == SECRETS
    # For another entity, the key of the HMAC includes its authValue as well.
    assert read(client, using(session, b"other"), index=INDEX + 1) == SECRETS
    with refused(TPM_RC_BAD_AUTH | 0x900):
        read(client, using(session, b"other", bound=True), index=INDEX + 1)


def test_a_bound_session_is_not_bound_any_more_once_the_auth_value_changes(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session(bind=TPM_RH_OWNER)
    client.run(HierarchyChangeAuth(TPM_RH_OWNER, b"new"), Password())
    nothing = using(session, b"", bound=True)
    with refused(TPM_RC_BAD_AUTH | 0x900):
        client.run(HierarchyChangeAuth(TPM_RH_OWNER, b""), nothing)


def test_a_bound_session_is_not_bound_any_more_once_it_audits(client: Client) -> None:
    """The command that makes it an audit session is the last that it is bound for (Part 1, 17.1)."""
    written(client, b"pin")
    session = using(client.start_session(bind=INDEX, bind_auth=b"pin"), b"pin", bound=True)
    session.attributes |= TPMA_SESSION_AUDIT
    assert read(client, session) == SECRETS
    session.attributes = TPMA_SESSION_CONTINUESESSION
    with refused(TPM_RC_BAD_AUTH | 0x900):
        read(client, session)
    assert read(client, using(session, b"pin", bound=False)) == SECRETS


@pytest.mark.parametrize("alg", [TPM_ALG_SHA1, TPM_ALG_SHA256, TPM_ALG_SHA384])
@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_salted_sessions(client: Client, kind: str, alg: int) -> None:
    written(client, b"pin")
    areas = keys.rsa(keys.DECRYPT) if kind == "rsa" else keys.elliptic(keys.DECRYPT)
    handle = keys.load(client, areas)
    salt, conveyed = salted(client, handle, b"a salt")
    session = client.start_session(auth_hash=alg, tpm_key=handle, salt=salt, encrypted_salt=conveyed)
    assert read(client, using(session, b"pin")) == SECRETS
    both = client.start_session(auth_hash=alg, tpm_key=handle, salt=salt, encrypted_salt=conveyed, bind=INDEX,
                                bind_auth=b"pin")
    assert read(client, using(both, b"pin", bound=True)) == SECRETS
    wrong = client.start_session(auth_hash=alg, tpm_key=handle, salt=b"wrong", encrypted_salt=conveyed)
    with refused(TPM_RC_BAD_AUTH | 0x900):
        read(client, using(wrong, b"pin"))


def test_a_command_cannot_be_played_again(client: Client) -> None:
    written(client, b"pin")
    wire = Recording(client)
    session = client.start_session()
    read(client, using(session, b"pin"))
    assert wire.raw(wire.command) == TPM_RC_BAD_AUTH | 0x900
    assert read(client, using(session, b"pin")) == SECRETS, "the session is as it was"


@pytest.mark.parametrize("offset", [-1, -5, -36, -39, -40, 30])
def test_nonce_attributes_parameters_and_hmac_are_covered(client: Client, offset: int) -> None:
    written(client, b"pin")
    wire = Recording(client)
    session = client.start_session()

    def change(command: bytes) -> bytes:
        changed = bytearray(command)
        changed[offset] ^= 1
        return bytes(changed)

    wire.change = change
    with refused(TPM_RC_BAD_AUTH | 0x900):
        read(client, using(session, b"pin"))
    wire.change = bytes
    assert read(client, using(session, b"pin")) == SECRETS


def test_continue_session_clear_ends_the_session(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session()
    assert read(client, using(session, b"pin", 0)) == SECRETS
    with refused(TPM_RC_REFERENCE_S0):
        read(client, using(session, b"pin"))


def test_a_failing_command_ends_no_session(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session()
    with pytest.raises(TpmError):
        client.run(NVRead(INDEX, INDEX, 17, 0), using(session, b"pin", 0))
    assert read(client, using(session, b"pin")) == SECRETS


@pytest.mark.parametrize("cipher", [AES128, AES256, XOR])
@pytest.mark.parametrize("separate", [False, True])
def test_parameters_are_encrypted_both_ways(client: Client, cipher: TPMT_SYM_DEF, *, separate: bool) -> None:
    written(client, b"pin")
    wire = Recording(client)
    first = client.start_session(symmetric_definition=cipher, bind=INDEX, bind_auth=b"pin")
    second = client.start_session(symmetric_definition=cipher, bind=INDEX, bind_auth=b"pin")
    data = b"0123456789abcdef"

    def sessions(purpose: int) -> list[Session]:
        if separate:
            return [using(first, b"pin", bound=True), using(second, b"", KEEP | purpose)]
        return [using(first, b"pin", KEEP | purpose, bound=True)]

    client.run(NVWrite(INDEX, INDEX, data, 0), *sessions(TPMA_SESSION_DECRYPT))
    assert data not in wire.command
    assert read(client, Password(b"pin")) == data
    assert read(client, *sessions(TPMA_SESSION_ENCRYPT)) == data


def test_two_sessions_encrypt_one_way_each(client: Client) -> None:
    client.run(StirRandom(b"x" * 16))
    deciphering = using(client.start_session(symmetric_definition=XOR),
                        attributes=KEEP | TPMA_SESSION_DECRYPT)
    enciphering = using(client.start_session(symmetric_definition=AES128),
                        attributes=KEEP | TPMA_SESSION_ENCRYPT)
    sealed = keys.load(client, _sealed(b"object"))
    proving = using(client.start_session(), b"object")
    assert client.run(Unseal(sealed), proving, enciphering).out_data == b"content"
    client.run(StirRandom(b"y" * 16), deciphering)
    assert len(client.run(GetRandom(8), enciphering).random_bytes) == 8


def test_the_auth_value_is_in_the_key_of_encryption_even_when_bound(client: Client) -> None:
    written(client, b"pin")
    session = client.start_session(symmetric_definition=AES128, bind=INDEX, bind_auth=b"pin")
    assert read(client, using(session, b"pin", KEEP | TPMA_SESSION_ENCRYPT, bound=True)) == SECRETS


@pytest.mark.parametrize(("attributes", "cipher", "rc"), [
    (KEEP, AES128, TPM_RC_ATTRIBUTES),  # a session without a purpose
    (KEEP | TPMA_SESSION_DECRYPT, AES128, TPM_RC_ATTRIBUTES),  # no parameter of GetRandom is a buffer
    (KEEP | TPMA_SESSION_ENCRYPT, NO_CIPHER, TPM_RC_SYMMETRIC),
])
def test_attributes_have_to_suit_the_command(client: Client, attributes: int, cipher: TPMT_SYM_DEF,
                                             rc: int) -> None:
    session = client.start_session(symmetric_definition=cipher)
    with refused(rc | 0x900):
        client.run(GetRandom(8), using(session, attributes=attributes))


def test_one_session_cannot_be_used_twice_in_a_command(client: Client) -> None:
    session = using(client.start_session(symmetric_definition=AES128), attributes=KEEP | TPMA_SESSION_ENCRYPT)
    with refused(TPM_RC_HANDLE | 0xA00):
        client.run(GetRandom(8), session, session)


def test_trial_sessions_authorize_nothing(client: Client) -> None:
    written(client, b"pin")
    trial = client.start_session(TPM_SE_TRIAL)
    with refused(TPM_RC_ATTRIBUTES | 0x900):
        read(client, using(trial, b"pin"))


@pytest.mark.parametrize("size", [0, 15, 16, 20, 21, 32, 33])
def test_size_of_the_first_nonce(client: Client, size: int) -> None:
    request = StartAuthSession(TPM_RH_NULL, TPM_RH_NULL, bytes(size), b"", TPM_SE_HMAC, NO_CIPHER,
                               TPM_ALG_SHA1)
    if 16 <= size <= 20:
        assert len(client.run(request).nonce_tpm) == size
    else:
        with refused(TPM_RC_SIZE | 0x140):
            client.run(request)


def test_what_start_auth_session_refuses(client: Client) -> None:
    signing = keys.load(client, keys.elliptic(keys.SIGN))
    public = keys.load(client, keys.elliptic(keys.DECRYPT), public_only=True)
    cannot = keys.load(client, keys.keyed_hash(keys.SIGN))

    def start(key: int = TPM_RH_NULL, bind: int = TPM_RH_NULL, salt: bytes = b"",
              cipher: TPMT_SYM_DEF = NO_CIPHER) -> None:
        client.run(StartAuthSession(key, bind, bytes(16), salt, TPM_SE_HMAC, cipher, TPM_ALG_SHA256))

    point = encode(TPMS_ECC_POINT(b"\1" * 32, b"\2" * 32))
    with refused(TPM_RC_ATTRIBUTES | 0x100):
        start(signing, salt=point)
    with refused(TPM_RC_HANDLE | 0x100):
        start(public, salt=point)
    with refused(TPM_RC_KEY | 0x100):
        start(cannot, salt=point)
    with refused(TPM_RC_VALUE | 0x240):
        start(salt=b"unexpected")
    with refused(TPM_RC_VALUE | 0x240):
        start(signing)
    with refused(TPM_RC_HANDLE | 0x200):
        start(bind=public)
    with refused(TPM_RC_MODE | 0x440):
        start(cipher=TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CBC))
    client.run(FlushContext(public))
    decrypting = keys.load(client, keys.elliptic(keys.DECRYPT))
    for bad in (point, point[:-1], b"\0", point + b"\0"):
        with refused(TPM_RC_VALUE | 0x240):
            start(decrypting, salt=bad)
    client.run(FlushContext(decrypting))
    rsa = keys.load(client, keys.rsa(keys.DECRYPT))
    for bad in (b"\0" * 256, b"\xff" * 256, b"\1" * 255):
        with refused(TPM_RC_VALUE | 0x240):
            start(rsa, salt=bad)


def test_the_first_audited_command_makes_a_session_exclusive(client: Client) -> None:
    audit = using(client.start_session(), attributes=KEEP | TPMA_SESSION_AUDIT)
    other = using(client.start_session(), attributes=KEEP | TPMA_SESSION_AUDIT)
    client.run(GetRandom(8), audit)
    audit.attributes |= TPMA_SESSION_AUDITEXCLUSIVE
    client.run(GetRandom(8), audit)
    client.run(GetRandom(8))  # A command without that session ends its exclusivity.
    with refused(TPM_RC_EXCLUSIVE):
        client.run(GetRandom(8), audit)
    audit.attributes |= TPMA_SESSION_AUDITRESET
    client.run(GetRandom(8), audit)
    audit.attributes &= ~TPMA_SESSION_AUDITRESET
    client.run(GetRandom(8), audit)
    client.run(GetRandom(8), other)
    with refused(TPM_RC_EXCLUSIVE):
        client.run(GetRandom(8), audit)


def test_commands_that_take_no_session_leave_exclusivity_alone(client: Client) -> None:
    audit = using(client.start_session(), attributes=KEEP | TPMA_SESSION_AUDIT)
    client.run(GetRandom(8), audit)
    spare = client.start_session()  # takes a session, so exclusivity is lost here
    audit.attributes = KEEP | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITRESET
    client.run(GetRandom(8), audit)
    client.run(FlushContext(spare.handle))
    audit.attributes = KEEP | TPMA_SESSION_AUDIT | TPMA_SESSION_AUDITEXCLUSIVE
    client.run(GetRandom(8), audit)


def test_the_audit_digest_is_of_all_audited_commands() -> None:
    machine = started()
    client = machine.client
    wire = Recording(client)
    audit = using(client.start_session(auth_hash=TPM_ALG_SHA1), attributes=KEEP | TPMA_SESSION_AUDIT)
    held = machine.tpm.sessions.get(audit.handle)
    expected = bytes(20)
    for selection in ([], []):
        answer = client.run(PCRRead(selection), audit)
        parameters = bytes(4)
        cp_hash = hashes.digest(TPM_ALG_SHA1, wire.command[6:10], parameters)
        response = bytes(4) + wire.command[6:10] + answer.pcr_update_counter.to_bytes(4, "big") + bytes(8)
        expected = hashes.digest(TPM_ALG_SHA1, expected, cp_hash, hashes.digest(TPM_ALG_SHA1, response))
    assert held.audit_digest == expected
    client.run(PCRRead([]))
    assert held.audit_digest == expected


def test_policy_restart_keeps_the_nonce(client: Client) -> None:
    session = client.start_session(TPM_SE_POLICY)
    client.run(PolicyRestart(session.handle))
    hmac = client.start_session()
    with pytest.raises(TpmError):
        client.run(PolicyRestart(hmac.handle))


def test_only_so_many_sessions_are_loaded_and_active() -> None:
    machine = started()
    client = machine.client
    sessions = [client.start_session() for _ in range(MAX_LOADED_SESSIONS)]
    assert [s.handle & 0xFFFFFF for s in sessions] == list(range(MAX_LOADED_SESSIONS))
    with refused(TPM_RC_SESSION_MEMORY):
        client.start_session()
    for _ in range(MAX_ACTIVE_SESSIONS - MAX_LOADED_SESSIONS):
        client.run(ContextSave(sessions.pop().handle))
        sessions.append(client.start_session())
    client.run(ContextSave(sessions.pop().handle))
    with refused(TPM_RC_SESSION_HANDLES):
        client.start_session()


def test_every_session_is_gone_after_a_power_cycle() -> None:
    machine = started()
    written(machine.client, b"pin")
    session = machine.client.start_session()
    machine.power_cycle()
    machine.run(Startup(TPM_SU_CLEAR))
    with refused(TPM_RC_REFERENCE_S0):
        read(machine.client, using(session, b"pin"))


def test_sessions_keep_their_secrets_out_of_repr() -> None:
    held = Held(0x02000000, TPM_SE_HMAC, TPM_ALG_SHA256, NO_CIPHER, bytes(16), b"key material", b"bound to")
    assert b"key material".hex() not in repr(held)
    assert decode(Held, encode(held)) == held


def test_session_state_survives_its_encoding() -> None:
    machine = started()
    client = machine.client
    for _ in range(3):
        client.run(ContextSave(client.start_session().handle))
    state = machine.tpm.sessions.save_volatile()
    other = Sessions()
    other.restore_volatile(state)
    assert other.save_volatile() == state
    other.restore(machine.tpm.sessions.save())
    with pytest.raises(ValueError, match="version"):
        other.restore(b"\2")


def test_a_lockout_bound_session_counts_as_lockout_auth() -> None:
    machine = started()
    client = machine.client
    written(client, b"pin")
    session = client.start_session(bind=TPM_RH_LOCKOUT)
    session.key = bytes(32)
    with pytest.raises(TpmError):
        read(client, using(session, b"pin"))
    assert not machine.tpm.lockout.lockout_auth_enabled


def test_names_follow_the_first_write(client: Client) -> None:
    written(client, b"pin")
    rename(client, INDEX)
    assert read(client, using(client.start_session(), b"pin")) == SECRETS

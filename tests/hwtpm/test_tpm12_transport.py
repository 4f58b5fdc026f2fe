"""Transport sessions (Part 3, 24)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.client12 import Client, Transport
from hwtpm.crypto import ids
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import TRANSPORT_SESSIONS
from hwtpm.tpm12.requests.context import FlushSpecific, LoadContext, SaveContext
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1Start
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.random import GetRandom
from hwtpm.tpm12.requests.sessions import OIAP
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.storage import CreateWrapKey, LoadKey2
from hwtpm.tpm12.requests.transport import EstablishTransport, ExecuteTransport, ReleaseTransportSigned
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_SCHEME,
    TPM_BADCONTEXT,
    TPM_BADINDEX,
    TPM_BADTAG,
    TPM_DECRYPT_ERROR,
    TPM_INAPPROPRIATE_ENC,
    TPM_INAPPROPRIATE_SIG,
    TPM_INVALID_AUTHHANDLE,
    TPM_INVALID_KEYHANDLE,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_NO_WRAP_TRANSPORT,
    TPM_RESOURCES,
    TPM_SHA_THREAD,
    TPM_SIZE,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_ALG_MGF1,
    TPM_ALG_RSA,
    TPM_ES_NONE,
    TPM_ES_SYM_CTR,
    TPM_ES_SYM_OFB,
    TPM_ET_KEYHANDLE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_KH_TRANSPORT,
    TPM_RT_TRANS,
    TPM_ST_STATE,
    TPM_TRANSPORT_ENCRYPT,
    TPM_TRANSPORT_EXCLUSIVE,
    TPM_TRANSPORT_LOG,
)
from hwtpm.tpm12.types.signed import TPM_SIGN_INFO
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_AUTH, TPM_TRANSPORT_PUBLIC
from hwtpm.wire import encode
from tests.support.tpm12 import (
    KEY_AUTH,
    OWNER_AUTH,
    SIGNING_PARMS,
    SRK_AUTH,
    STORAGE_PARMS,
    create_key,
    key_template,
    once,
    owned,
    started,
    take_ownership,
)
from tests.support.tpm12_pair import Pair, pair

SECRET = b"transport".ljust(20, b".")
PLAIN = TPM_TRANSPORT_PUBLIC(0, 0, TPM_ES_NONE)
LOGGED = TPM_TRANSPORT_PUBLIC(TPM_TRANSPORT_LOG, 0, TPM_ES_NONE)
EXCLUSIVE = TPM_TRANSPORT_PUBLIC(TPM_TRANSPORT_EXCLUSIVE, 0, TPM_ES_NONE)
CIPHERS = {
    "mgf1": (TPM_ALG_MGF1, TPM_ES_NONE),
    "aes-ctr": (TPM_ALG_AES128, TPM_ES_SYM_CTR),
    "aes-ofb": (TPM_ALG_AES128, TPM_ES_SYM_OFB),
}


def fails(rc: int):  # type: ignore[no-untyped-def]
    return pytest.raises(TpmError, match=str(TpmError(rc)))


def storage_key(client: Client) -> tuple[int, bytes]:
    """Return handle and modulus of a new storage key."""
    made = create_key(client, key_template(TPM_KEY_STORAGE, STORAGE_PARMS))
    loaded = client.run(LoadKey2(TPM_KH_SRK, made), once(client.oiap(SRK_AUTH)))
    return loaded.inkey_handle, made.pub_key


def signing_key(client: Client) -> tuple[int, bytes]:
    """Return handle and modulus of a new signing key."""
    made = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    loaded = client.run(LoadKey2(TPM_KH_SRK, made), once(client.oiap(SRK_AUTH)))
    return loaded.inkey_handle, made.pub_key


def establish(client: Client, attributes: int, cipher: str) -> Transport:
    """Return a session whose secret travelled under a storage key."""
    handle, modulus = storage_key(client)
    public = TPM_TRANSPORT_PUBLIC(attributes, *CIPHERS[cipher])
    hidden = RsaPublic(modulus).encrypt_oaep(ids.SHA1, b"TCPA", encode(TPM_TRANSPORT_AUTH(SECRET)))
    return client.establish(public, SECRET, handle, hidden, once(client.oiap(KEY_AUTH)))


def test_a_wrapped_command_answers_as_one_that_is_not() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    assert inside.run(PcrRead(16)).out_digest == machine.run(PcrRead(16)).out_digest
    value = inside.run(Extend(16, b"\1" * 20)).out_digest
    assert machine.run(PcrRead(16)).out_digest == value


@pytest.mark.parametrize("cipher", CIPHERS)
def test_an_encrypting_session_hides_parameters_but_not_handles(cipher: str) -> None:
    machine = owned()
    inside = establish(machine.client, TPM_TRANSPORT_ENCRYPT, cipher)
    seen: list[bytes] = []
    inside._execute = lambda octets: seen.append(octets) or machine.execute(octets)  # type: ignore[func-returns-value]
    digest = b"a value that is hidden"[:20]
    inside.run(Extend(16, digest))
    assert digest not in seen[0]
    session = inside.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH)
    template = key_template(TPM_KEY_SIGNING, SIGNING_PARMS)
    made = inside.run(CreateWrapKey(TPM_KH_SRK, session.encrypt(KEY_AUTH),
                                    session.encrypt(KEY_AUTH, odd=True), template), session).wrapped_key
    assert TPM_KH_SRK.to_bytes(4, "big") in seen[-1]
    assert encode(SIGNING_PARMS) not in seen[-1]
    handle = inside.run(LoadKey2(TPM_KH_SRK, made), inside.oiap(SRK_AUTH)).inkey_handle
    assert handle in machine.tpm.keys.loaded


@pytest.mark.parametrize("cipher", ["none", *CIPHERS])
def test_the_log_of_a_session_is_signed(cipher: str) -> None:
    machine = owned()
    client = machine.client
    signer, modulus = signing_key(client)
    if cipher == "none":
        inside = client.establish(LOGGED, SECRET)
    else:
        inside = establish(client, TPM_TRANSPORT_LOG | TPM_TRANSPORT_ENCRYPT, cipher)
    machine.locality = 2
    machine.clock.advance(77)
    inside.run(Extend(16, b"\1" * 20))
    with fails(TPM_BADINDEX):
        inside.run(PcrRead(500))
    inside.moduli[TPM_KH_SRK] = machine.tpm.permanent.srk.public.pub_key
    made = create_key(client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    inside.run(LoadKey2(TPM_KH_SRK, made), once(inside.oiap(SRK_AUTH)))
    replay = b"\5" * 20
    released = inside.release(signer, replay, once(client.oiap(KEY_AUTH)))
    assert released.locality == 2
    assert released.current_ticks == machine.tpm.ticks.current()
    info = TPM_SIGN_INFO(b"TRAN", replay, inside.log)
    RsaPublic(modulus).verify_pkcs1(ids.SHA1, sha1(encode(info)).digest(), released.signature)
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))


def test_an_error_inside_is_the_response_that_is_wrapped() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    with fails(TPM_BADINDEX):
        inside.run(PcrRead(500))
    assert len(inside.run(GetRandom(4)).random_bytes) == 4


@pytest.mark.parametrize("request_inside", [
    EstablishTransport(TPM_KH_TRANSPORT, PLAIN, SECRET), ExecuteTransport(b"\0" * 10),
    ReleaseTransportSigned(TPM_KH_SRK, bytes(20)),
])
def test_sessions_do_not_nest(request_inside) -> None:  # type: ignore[no-untyped-def]
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    sessions = () if isinstance(request_inside, EstablishTransport) else (inside.oiap(SECRET),)
    with fails(TPM_NO_WRAP_TRANSPORT):
        inside.run(request_inside, *sessions)
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))


def test_a_wrong_authorization_ends_the_session() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    inside._secret = bytes(20)
    with fails(TPM_AUTHFAIL):
        inside.run(GetRandom(4))
    assert machine.tpm.transports.open == {}


def test_a_session_ends_when_it_does_not_continue() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    inside.continues = False
    inside.run(GetRandom(4))
    assert machine.tpm.transports.open == {}


def test_any_other_command_ends_an_exclusive_session() -> None:
    machine = started()
    inside = machine.client.establish(EXCLUSIVE, SECRET)
    inside.run(GetRandom(4))
    inside.run(GetRandom(4))
    machine.run(GetRandom(4))
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))
    assert machine.tpm.transports.exclusive == 0


def test_a_command_in_another_session_ends_an_exclusive_one() -> None:
    machine = started()
    other = machine.client.establish(PLAIN, SECRET)
    inside = machine.client.establish(EXCLUSIVE, SECRET)
    other.run(GetRandom(4))
    assert list(machine.tpm.transports.open) == [other.handle]
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))


def test_a_wrapped_command_can_end_its_own_session() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    inside.run(FlushSpecific(inside.handle, TPM_RT_TRANS))
    assert machine.tpm.transports.open == {}


def test_what_cannot_be_established() -> None:
    machine = owned()
    client = machine.client
    handle, modulus = storage_key(client)
    signer, _ = signing_key(client)

    def hidden(plain: bytes) -> bytes:
        return RsaPublic(modulus).encrypt_oaep(ids.SHA1, b"TCPA", plain)

    good = encode(TPM_TRANSPORT_AUTH(SECRET))
    encrypting = TPM_TRANSPORT_PUBLIC(TPM_TRANSPORT_ENCRYPT, TPM_ALG_MGF1, TPM_ES_NONE)
    with fails(TPM_BAD_SCHEME):
        client.establish(encrypting, SECRET)
    with fails(TPM_BAD_PARAM_SIZE):
        client.establish(PLAIN, SECRET[1:])
    with fails(TPM_BADTAG):
        client.run(EstablishTransport(TPM_KH_TRANSPORT, PLAIN, SECRET), once(client.oiap(KEY_AUTH)))
    with fails(TPM_AUTHFAIL):
        client.establish(encrypting, SECRET, handle, hidden(good))
    with fails(TPM_DECRYPT_ERROR):
        client.establish(encrypting, SECRET, handle, bytes(256), once(client.oiap(KEY_AUTH)))
    with fails(TPM_INVALID_STRUCTURE):
        client.establish(encrypting, SECRET, handle, hidden(b"\1" + good[1:]), once(client.oiap(KEY_AUTH)))
    with fails(TPM_INVALID_KEYUSAGE):
        client.establish(encrypting, SECRET, signer, hidden(good), once(client.oiap(KEY_AUTH)))
    for alg, scheme, rc in ((TPM_ALG_RSA, TPM_ES_NONE, TPM_BAD_KEY_PROPERTY),
                            (TPM_ALG_AES128, TPM_ES_NONE, TPM_INAPPROPRIATE_ENC),
                            (TPM_ALG_MGF1, TPM_ES_SYM_CTR, TPM_INAPPROPRIATE_ENC)):
        with fails(rc):
            client.establish(TPM_TRANSPORT_PUBLIC(TPM_TRANSPORT_ENCRYPT, alg, scheme), SECRET, handle,
                             hidden(good), once(client.oiap(KEY_AUTH)))
    assert machine.tpm.transports.open == {}
    for _ in range(TRANSPORT_SESSIONS):
        client.establish(PLAIN, SECRET)
    with fails(TPM_RESOURCES):
        client.establish(PLAIN, SECRET)


@pytest.mark.parametrize("wrapped", [b"", bytes(10), bytes.fromhex("00c10000000b00000046"),
                                     bytes.fromhex("00c10000000a000000ff"),
                                     bytes.fromhex("00c20000000e0000004600000000")])
def test_what_is_no_command_cannot_be_wrapped(wrapped: bytes) -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    session = machine.client.oiap(SECRET)
    session.handle = inside.handle
    with fails(TPM_BAD_PARAMETER):
        machine.run(ExecuteTransport(wrapped), session)


def test_a_response_that_does_not_fit_is_an_error() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    with fails(TPM_SIZE):
        inside.run(GetRandom(4050))


def test_a_key_that_is_not_loaded_cannot_be_logged() -> None:
    machine = owned()
    inside = machine.client.establish(LOGGED, SECRET)
    made = create_key(machine.client, key_template(TPM_KEY_SIGNING, SIGNING_PARMS))
    with fails(TPM_INVALID_KEYHANDLE):
        inside.run(LoadKey2(0x1234, made), once(machine.client.oiap(SRK_AUTH)))


def test_release_needs_a_log_and_both_authorizations() -> None:
    machine = owned()
    client = machine.client
    signer, _ = signing_key(client)
    storage, _ = storage_key(client)
    with fails(TPM_BAD_MODE):
        client.establish(PLAIN, SECRET).release(signer, bytes(20), once(client.oiap(KEY_AUTH)))
    inside = client.establish(LOGGED, SECRET)
    inside._secret = bytes(20)
    with fails(TPM_AUTH2FAIL):
        inside.release(signer, bytes(20), once(client.oiap(KEY_AUTH)))
    with fails(TPM_AUTHFAIL):
        client.establish(LOGGED, SECRET).release(signer, bytes(20), once(client.oiap(OWNER_AUTH)))
    with fails(TPM_AUTHFAIL):
        client.establish(LOGGED, SECRET).release(signer, bytes(20))
    with fails(TPM_INAPPROPRIATE_SIG):
        client.establish(LOGGED, SECRET).release(storage, bytes(20), once(client.oiap(KEY_AUTH)))
    assert machine.tpm.transports.open == {}


def test_a_sha1_thread_stays_in_its_session() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    inside.run(SHA1Start())
    assert inside.run(SHA1Complete(b"abc")).hash_value == sha1(b"abc").digest()
    inside.run(SHA1Start())
    with fails(TPM_SHA_THREAD):
        machine.run(SHA1Complete(b"abc"))
    machine.run(SHA1Start())
    with fails(TPM_SHA_THREAD):
        inside.run(SHA1Complete(b"abc"))


def test_a_session_is_saved_and_loaded_once() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    blob = machine.run(SaveContext(inside.handle, TPM_RT_TRANS, bytes(16))).context_blob
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))
    assert machine.run(LoadContext(0, 1, blob)).handle == inside.handle
    inside.run(GetRandom(4))
    with fails(TPM_BADCONTEXT):
        machine.run(LoadContext(0, 0, blob))


def test_a_session_outlives_a_saved_state_alone() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    with fails(TPM_NO_WRAP_TRANSPORT):
        inside.run(SaveState())
    machine.run(SaveState())
    machine.power_cycle()
    machine.run(Startup(TPM_ST_STATE))
    inside.run(GetRandom(4))
    machine.power_cycle()
    machine.run(Startup(1))
    with fails(TPM_INVALID_AUTHHANDLE):
        inside.run(GetRandom(4))


def test_a_session_opened_inside_authorizes_outside() -> None:
    machine = started()
    inside = machine.client.establish(PLAIN, SECRET)
    assert inside.run(OIAP()).auth_handle in machine.tpm.sessions.open


def _flow(both: Pair, number: int, cipher: str) -> list[object]:
    """Return what a TPM answers to wrapped commands; its log is signed if it is right."""
    client = both.clients[number]
    signer, modulus = signing_key(client)
    inside = establish(client, TPM_TRANSPORT_LOG | TPM_TRANSPORT_ENCRYPT, cipher)
    found: list[object] = [inside.run(PcrRead(5)).out_digest, inside.run(Extend(16, b"\1" * 20)).out_digest,
                           len(inside.run(GetRandom(33)).random_bytes)]
    for request in PcrRead(500), SaveState():
        try:
            found.append(inside.run(request))
        except TpmError as error:
            found.append(error.rc)
    inside.moduli[signer] = modulus
    released = inside.release(signer, b"\7" * 20, once(client.oiap(KEY_AUTH)))
    info = TPM_SIGN_INFO(b"TRAN", b"\7" * 20, inside.log)
    RsaPublic(modulus).verify_pkcs1(ids.SHA1, sha1(encode(info)).digest(), released.signature)
    return found


@pytest.mark.parametrize("cipher", CIPHERS)
def test_swtpm_answers_the_same(cipher: str) -> None:
    with pair() as both:
        for client in both.clients:
            take_ownership(client)
        assert _flow(both, 0, cipher) == _flow(both, 1, cipher)

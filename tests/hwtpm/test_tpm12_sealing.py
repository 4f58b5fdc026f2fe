"""Sealed and bound data of TPM 1.2 (Part 3, 10.1 to 10.3 and 10.7)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hwtpm.client12 import Client, Session
from hwtpm.crypto import ids
from hwtpm.tpm12.requests.integrity import Extend
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.requests.storage import Seal, Sealx, UnBind, Unseal
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_LOCALITY,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_PARAMETER,
    TPM_BAD_VERSION,
    TPM_BADINDEX,
    TPM_DECRYPT_ERROR,
    TPM_INVALID_KEYUSAGE,
    TPM_INVALID_STRUCTURE,
    TPM_NOSRK,
    TPM_NOTSEALED_BLOB,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_NEVER,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ET_AES128_CTR,
    TPM_ET_KEYHANDLE,
    TPM_ET_XOR,
    TPM_KEY_BIND,
    TPM_KEY_LEGACY,
    TPM_KEY_STORAGE,
    TPM_KH_SRK,
    TPM_MIGRATABLE,
    TPM_SS_NONE,
    TPM_ST_CLEAR,
    TPM_TAG_STORED_DATA12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG
from hwtpm.tpm12.types.storage import TPM_STORED_DATA
from hwtpm.wire import decode, encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    BINDING_PARMS,
    KEY_AUTH,
    RSA_2048,
    SRK_AUTH,
    STORAGE_PARMS,
    Machine,
    composite,
    new_key,
    once,
    owned,
    selection,
    signing_key,
    started,
)
from tests.support.tpm12_keys import public_key

DATA_AUTH = b"data".ljust(20, b".")
BOUND = b"\1\1\0\0\2"
ZERO = bytes(20)


@pytest.fixture
def machine() -> Machine:
    return owned()


def seal(client: Client, data: bytes, pcr_info: bytes = b"", key: int = TPM_KH_SRK,
         auth: bytes = SRK_AUTH, adip: int = TPM_ET_XOR) -> TPM_STORED_DATA:
    session = client.osap(TPM_ET_KEYHANDLE, key, auth, adip)
    return client.run(Seal(key, session.encrypt(DATA_AUTH), pcr_info, data), session).sealed_data


def sealx(client: Client, data: bytes, adip: int, pcr_info: bytes = b"") -> TPM_STORED_DATA:
    session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH, adip)
    request = Sealx(TPM_KH_SRK, session.encrypt(DATA_AUTH), pcr_info, session.encrypt_data(data))
    return client.run(request, session).sealed_data


def unseal(client: Client, stored: TPM_STORED_DATA, parent: Session | None = None,
           data: Session | None = None) -> bytes:
    parent = parent or once(client.oiap(SRK_AUTH))
    data = data or once(client.oiap(DATA_AUTH))
    return client.run(Unseal(TPM_KH_SRK, stored), parent, data).secret


@pytest.mark.parametrize("adip", [TPM_ET_XOR, TPM_ET_AES128_CTR])
def test_sealed_data_comes_back(machine: Machine, adip: int) -> None:
    stored = seal(machine.client, b"secret", adip=adip)
    assert (stored.tag, stored.et, stored.seal_info) == (0x0101, 0, b"")
    assert unseal(machine.client, stored) == b"secret"
    assert not machine.tpm.sessions.open
    machine.power_cycle()
    machine.run(Startup(TPM_ST_CLEAR))
    assert unseal(machine.client, stored) == b"secret"


def test_sealed_data_is_at_most_149_octets(machine: Machine) -> None:
    """TPM_SEALED_DATA has 65 octets beside the data, and OAEP leaves 214."""
    longest = bytes(range(149))
    assert unseal(machine.client, seal(machine.client, longest)) == longest
    with refused(TPM_BAD_DATASIZE):
        seal(machine.client, bytes(150))
    with refused(TPM_BAD_PARAMETER):
        seal(machine.client, b"")


@dataclass
class Binding:
    """PCR information that asks for PCR 7 and its encoding before and after sealing."""

    given: bytes
    kept: bytes


def binding(kind: str, value: bytes, locality: int = 0x1F) -> Binding:
    chosen, release = selection(7), composite(selection(7), value)
    if kind == "1.1":
        return Binding(encode(TPM_PCR_INFO(chosen, release, ZERO)),
                       encode(TPM_PCR_INFO(chosen, release, composite(chosen, ZERO))))
    made = selection(0, 1)
    return Binding(
        encode(TPM_PCR_INFO_LONG(1, locality, made, chosen, ZERO, release)),
        encode(TPM_PCR_INFO_LONG(1, locality, made, chosen, composite(made, ZERO, ZERO), release)))


@pytest.mark.parametrize("kind", ["1.1", "1.2"])
def test_unseal_wants_the_pcrs_that_seal_named(machine: Machine, kind: str) -> None:
    value = machine.tpm.pcrs.values[7]
    info = binding(kind, value)
    stored = seal(machine.client, b"secret", info.given)
    assert stored.seal_info == info.kept
    assert stored.tag == (0x0101 if kind == "1.1" else TPM_TAG_STORED_DATA12)
    assert unseal(machine.client, stored) == b"secret"
    machine.run(Extend(7, ZERO))
    with refused(TPM_WRONGPCRVAL):
        unseal(machine.client, stored)


def test_unseal_wants_a_locality_that_seal_named(machine: Machine) -> None:
    machine.locality = 3
    stored = seal(machine.client, b"secret", binding("1.2", ZERO, locality=0b00110).given)
    assert decode(TPM_PCR_INFO_LONG, stored.seal_info).locality_at_creation == 1 << 3
    with refused(TPM_BAD_LOCALITY):
        unseal(machine.client, stored)
    machine.locality = 2
    assert unseal(machine.client, stored) == b"secret"


def test_pcr_information_that_cannot_be_read_is_refused(machine: Machine) -> None:
    long = binding("1.2", ZERO).given
    for octets in (b"\0", b"\0\6", long[:-1], long + b"\0", long[:2] + b"\1\0" + long[4:],
                   binding("1.1", ZERO).given[1:]):
        with refused(TPM_BADINDEX):
            seal(machine.client, b"secret", octets)
    with refused(TPM_BADINDEX):
        sealx(machine.client, b"secret", TPM_ET_XOR, binding("1.1", ZERO).given)


def test_only_a_storage_key_that_stays_here_seals(machine: Machine) -> None:
    for key in (signing_key(machine.client),
                new_key(machine.client, TPM_KEY_STORAGE, STORAGE_PARMS, flags=TPM_MIGRATABLE)):
        with refused(TPM_INVALID_KEYUSAGE):
            seal(machine.client, b"secret", key=key, auth=KEY_AUTH)
        stored = seal(machine.client, b"secret")
        with refused(TPM_INVALID_KEYUSAGE):
            machine.run(Unseal(key, stored), machine.client.oiap(KEY_AUTH), machine.client.oiap(DATA_AUTH))


def test_seal_needs_osap_and_an_owner(machine: Machine) -> None:
    with refused(TPM_BAD_MODE):
        machine.run(Seal(TPM_KH_SRK, ZERO, b"", b"x"), machine.client.oiap(SRK_AUTH))
    with refused(TPM_NOSRK):
        other = started()
        other.run(Seal(TPM_KH_SRK, ZERO, b"", b"x"), other.client.oiap(SRK_AUTH))


def test_unseal_wants_both_secrets(machine: Machine) -> None:
    client, stored = machine.client, seal(machine.client, b"secret")
    with refused(TPM_AUTHFAIL):
        unseal(client, stored, parent=client.oiap(b"x" * 20))
    with refused(TPM_AUTH2FAIL):
        unseal(client, stored, data=client.oiap(b"x" * 20))
    with refused(TPM_BAD_MODE):
        unseal(client, stored, data=client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH))
    with refused(TPM_AUTHFAIL):  # the SRK needs its own authorization
        machine.run(Unseal(TPM_KH_SRK, stored), client.oiap(DATA_AUTH))


def test_a_parent_without_authorization_leaves_that_of_the_data(machine: Machine) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, auth_data_usage=TPM_AUTH_NEVER)
    stored = seal(client, b"secret", key=key, auth=KEY_AUTH)
    assert machine.run(Unseal(key, stored), client.oiap(DATA_AUTH)).secret == b"secret"
    with refused(TPM_AUTHFAIL):
        machine.run(Unseal(key, stored), client.oiap(b"x" * 20))


def test_a_changed_or_foreign_blob_is_no_sealed_blob(machine: Machine) -> None:
    stored = seal(machine.client, b"secret", binding("1.2", ZERO).given)
    for change in (
        {"et": 5}, {"seal_info": binding("1.2", b"x" * 20).kept}, {"enc_data": bytes(256)}, {"enc_data": b""},
        {"enc_data": bytes(300)}, {"enc_data": seal(machine.client, b"other").enc_data},
        {"enc_data": seal(owned(b"another").client, b"foreign").enc_data},
    ):
        parts = {"tag": stored.tag, "et": stored.et, "seal_info": stored.seal_info,
                 "enc_data": stored.enc_data} | change
        with refused(TPM_NOTSEALED_BLOB):
            unseal(machine.client, TPM_STORED_DATA(**parts))  # type: ignore[arg-type]
    with refused(TPM_BAD_VERSION):
        unseal(machine.client, TPM_STORED_DATA(0x0102, 0, b"", stored.enc_data))


@pytest.mark.parametrize("adip", [TPM_ET_XOR, TPM_ET_AES128_CTR])
def test_sealx_takes_and_unseal_gives_encrypted_data(machine: Machine, adip: int) -> None:
    client, secret = machine.client, bytes(range(100))
    stored = sealx(client, secret, adip)
    assert (stored.tag, stored.et) == (TPM_TAG_STORED_DATA12, 5 if adip == TPM_ET_XOR else 0x0600)
    session = client.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, SRK_AUTH, adip)
    found = unseal(client, stored, parent=session)
    assert found != secret
    assert session.decrypt_data(found) == secret
    assert not machine.tpm.sessions.open
    with refused(TPM_BAD_MODE):
        unseal(client, stored)


def test_data_of_sealx_needs_a_session_for_the_parent(machine: Machine) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS, auth_data_usage=TPM_AUTH_NEVER)
    session = client.osap(TPM_ET_KEYHANDLE, key, KEY_AUTH)
    stored = client.run(Sealx(key, session.encrypt(DATA_AUTH), b"", session.encrypt_data(b"x")),
                        session).sealed_data
    with refused(TPM_AUTHFAIL):
        machine.run(Unseal(key, stored), client.oiap(DATA_AUTH))


def parms(encryption: int, signature: int = TPM_SS_NONE) -> TPM_KEY_PARMS:
    return TPM_KEY_PARMS(TPM_ALG_RSA, encryption, signature, RSA_2048)


def unbind(client: Client, key: int, cipher: bytes) -> bytes:
    return client.run(UnBind(key, cipher), once(client.oiap(KEY_AUTH))).out_data


def test_bound_data_comes_back(machine: Machine) -> None:
    client = machine.client
    oaep = new_key(client, TPM_KEY_BIND, BINDING_PARMS)
    pkcs = new_key(client, TPM_KEY_BIND, parms(TPM_ES_RSAESPKCSv15))
    for data in (b"", b"bound", bytes(209)):
        cipher = public_key(client, oaep).encrypt_oaep(ids.SHA1, b"TCPA", BOUND + data)
        assert unbind(client, oaep, cipher) == data
        cipher = public_key(client, pkcs).encrypt_pkcs1(BOUND + data)
        assert unbind(client, pkcs, cipher) == data


def test_only_a_legacy_key_gives_data_without_a_marker(machine: Machine) -> None:
    client = machine.client
    legacy = new_key(client, TPM_KEY_LEGACY, parms(TPM_ES_RSAESPKCSv15, TPM_SS_RSASSAPKCS1v15_SHA1))
    assert unbind(client, legacy, public_key(client, legacy).encrypt_pkcs1(b"plain")) == b"plain"
    legacy = new_key(client, TPM_KEY_LEGACY, parms(TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_RSASSAPKCS1v15_SHA1))
    cipher = public_key(client, legacy).encrypt_oaep(ids.SHA1, b"TCPA", BOUND + b"m")
    assert unbind(client, legacy, cipher) == b"m"
    for wrong, rc in ((b"plain", TPM_BAD_VERSION), (b"\1\2\0\0\2data", TPM_BAD_VERSION),
                      (b"\1\1\0\0\5data", TPM_INVALID_STRUCTURE), (b"\1\1\0\0", TPM_BAD_PARAM_SIZE),
                      (b"", TPM_BAD_PARAM_SIZE)):
        with refused(rc):
            unbind(client, legacy, public_key(client, legacy).encrypt_oaep(ids.SHA1, b"TCPA", wrong))


def test_bound_data_of_the_wrong_size_or_key_is_refused(machine: Machine) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_BIND, BINDING_PARMS)
    for cipher, rc in ((b"", TPM_BAD_PARAMETER), (bytes(257), TPM_BAD_DATASIZE),
                       (bytes(255), TPM_DECRYPT_ERROR), (bytes(256), TPM_DECRYPT_ERROR),
                       (b"\xff" * 256, TPM_DECRYPT_ERROR)):
        with refused(rc):
            unbind(client, key, cipher)
    cipher = public_key(client, key).encrypt_oaep(ids.SHA1, b"other", BOUND)
    with refused(TPM_DECRYPT_ERROR):
        unbind(client, key, cipher)
    with refused(TPM_AUTHFAIL):
        machine.run(UnBind(key, cipher))
    for key in (signing_key(client), new_key(client, TPM_KEY_STORAGE, STORAGE_PARMS)):
        with refused(TPM_INVALID_KEYUSAGE):
            unbind(client, key, cipher)


def test_a_key_bound_to_pcrs_unbinds_while_they_hold(machine: Machine) -> None:
    client = machine.client
    key = new_key(client, TPM_KEY_BIND, BINDING_PARMS, pcr_info=binding("1.1", ZERO).given)
    cipher = public_key(client, key).encrypt_oaep(ids.SHA1, b"TCPA", BOUND + b"data")
    assert unbind(client, key, cipher) == b"data"
    machine.run(Extend(7, ZERO))
    with refused(TPM_WRONGPCRVAL):
        unbind(client, key, cipher)



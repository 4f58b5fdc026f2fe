"""The endorsement key of TPM 1.2 (Part 3, 14, 27.6 and 27.7)."""

from __future__ import annotations

from hashlib import sha1

import pytest

from hwtpm.tpm12.requests.endorsement import (
    CreateEndorsementKeyPair,
    CreateRevocableEK,
    DisablePubekRead,
    OwnerReadInternalPub,
    OwnerReadPubek,
    ReadPubek,
    RevokeTrust,
)
from hwtpm.tpm12.requests.presence import PhysicalPresence
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_BAD_PRESENCE,
    TPM_DISABLED_CMD,
    TPM_FAIL,
    TPM_NO_ENDORSEMENT,
    TPM_NOSRK,
    TPM_PERMANENTEK,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_ALG_RSA,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KH_EK,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_NV_PER_OWNERWRITE,
    TPM_PHYSICAL_PRESENCE_CMD_ENABLE,
    TPM_PHYSICAL_PRESENCE_PRESENT,
    TPM_SS_NONE,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import TPM_KEY_PARMS, TPM_RSA_KEY_PARMS
from hwtpm.wire import encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import (
    OWNER_AUTH,
    RSA_2048,
    SIGNING_PARMS,
    STORAGE_PARMS,
    once,
    owned,
    started,
    take_ownership,
)
from tests.support.tpm12_pair import pair

NONCE, RESET = b"n" * 20, b"reset".ljust(20, b".")
PRESENT = PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT)
RSA_1024 = encode(TPM_RSA_KEY_PARMS(1024, 2, b""))
THREE_PRIMES = encode(TPM_RSA_KEY_PARMS(2048, 3, b""))
BAD_PARMS = [
    TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, RSA_1024),
    TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, THREE_PRIMES),
    TPM_KEY_PARMS(TPM_ALG_AES128, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE, b""),
    SIGNING_PARMS,
]


def test_an_endorsement_key_is_made_once_and_read_by_everybody() -> None:
    machine = started()
    with refused(TPM_NO_ENDORSEMENT):
        machine.run(ReadPubek(NONCE))
    made = machine.run(CreateEndorsementKeyPair(NONCE, STORAGE_PARMS))
    assert made.checksum == sha1(encode(made.pub_endorsement_key) + NONCE).digest()
    assert machine.run(ReadPubek(NONCE)) == made
    for request in (CreateEndorsementKeyPair(NONCE, STORAGE_PARMS),
                    CreateRevocableEK(NONCE, STORAGE_PARMS, 1, RESET)):
        with refused(TPM_DISABLED_CMD):
            machine.run(request)
    machine.run(PRESENT)
    with refused(TPM_PERMANENTEK):
        machine.run(RevokeTrust(bytes(20)))


@pytest.mark.parametrize("parms", BAD_PARMS)
def test_an_endorsement_key_is_rsa_2048_with_oaep(parms: TPM_KEY_PARMS) -> None:
    machine = started()
    for request in CreateEndorsementKeyPair(NONCE, parms), CreateRevocableEK(NONCE, parms, 1, RESET):
        with refused(TPM_BAD_KEY_PROPERTY):
            machine.run(request)
    assert machine.tpm.permanent.endorsement_key is None


def test_the_signature_scheme_of_an_endorsement_key_is_ignored() -> None:
    parms = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_RSASSAPKCS1v15_SHA1, RSA_2048)
    made = started().run(CreateEndorsementKeyPair(NONCE, parms))
    assert made.pub_endorsement_key.algorithm_parms.sig_scheme == TPM_SS_NONE


@pytest.mark.parametrize("generated", [False, True])
def test_a_revocable_key_is_revoked_by_who_is_there_and_knows_the_secret(generated: bool) -> None:
    machine = started()
    made = machine.run(CreateRevocableEK(NONCE, STORAGE_PARMS, int(generated), RESET))
    assert (made.output_ek_reset == RESET) is not generated
    with refused(TPM_AUTHFAIL):
        machine.run(RevokeTrust(b"?" * 20))
    with refused(TPM_BAD_PRESENCE):
        machine.run(RevokeTrust(made.output_ek_reset))
    machine.run(PRESENT)
    proof = machine.tpm.permanent.daa_proof
    machine.run(RevokeTrust(made.output_ek_reset))
    assert machine.tpm.permanent.endorsement_key is None
    assert machine.tpm.permanent.daa_proof != proof
    assert not machine.tpm.flags.permanent.cekp_used
    machine.tpm.flags.set(disable=False)
    with refused(TPM_NO_ENDORSEMENT):
        machine.run(ReadPubek(NONCE))


def test_revoking_takes_the_owner_and_even_what_the_manufacturer_defined() -> None:
    from tests.hwtpm.test_tpm12_nv import public

    machine = started()
    made = machine.run(CreateRevocableEK(NONCE, STORAGE_PARMS, 1, RESET))
    take_ownership(machine.client, made.pub_endorsement_key)
    for index in 0x1234, 0x10001234:
        machine.tpm.nv.define(public(TPM_NV_PER_OWNERWRITE, index=index), bytes(20))
    machine.tpm.flags.set(nv_locked=True)
    machine.run(PRESENT)
    machine.run(RevokeTrust(made.output_ek_reset))
    assert not machine.tpm.permanent.owner_installed
    assert not machine.tpm.nv.areas
    assert not machine.tpm.flags.permanent.nv_locked


def test_the_owner_reads_both_root_keys_and_nobody_else() -> None:
    machine = owned()
    permanent = machine.tpm.permanent
    ek, srk = permanent.endorsement_key.pubkey, permanent.srk.pubkey
    for handle, key in (TPM_KH_EK, ek), (TPM_KH_SRK, srk):
        read = machine.run(OwnerReadInternalPub(handle), machine.client.oiap(OWNER_AUTH))
        assert read.public_portion == key
    assert machine.run(OwnerReadPubek(), machine.client.oiap(OWNER_AUTH)).public_portion == ek
    with refused(TPM_BAD_PARAMETER):
        machine.run(OwnerReadInternalPub(TPM_KH_OWNER), machine.client.oiap(OWNER_AUTH))
    for request in OwnerReadInternalPub(TPM_KH_EK), OwnerReadPubek(), DisablePubekRead():
        with refused(TPM_AUTHFAIL):
            machine.run(request, machine.client.oiap(b"?" * 20))
        machine.tpm.lockout.reset()
        other = started()
        with refused(TPM_NOSRK):
            other.run(request, other.client.oiap(OWNER_AUTH))


def test_the_handle_of_an_internal_key_is_authorized() -> None:
    """Who exchanges the SRK's handle for the endorsement key's on the way gets no answer."""
    machine = owned()

    def exchange(command: bytes) -> bytes:
        srk, ek = TPM_KH_SRK.to_bytes(4, "big"), TPM_KH_EK.to_bytes(4, "big")
        return machine.execute(command.replace(srk, ek, 1))

    client = type(machine.client)(exchange, machine.entropy)
    with refused(TPM_AUTHFAIL):
        client.run(OwnerReadInternalPub(TPM_KH_SRK), client.oiap(OWNER_AUTH))


def test_the_owner_disables_reading_of_the_endorsement_key() -> None:
    machine = owned()
    machine.tpm.flags.set(read_pubek=True)
    machine.run(ReadPubek(NONCE))
    machine.run(DisablePubekRead(), machine.client.oiap(OWNER_AUTH))
    with refused(TPM_DISABLED_CMD):
        machine.run(ReadPubek(NONCE))


def test_a_key_that_is_found_by_searching_can_be_cancelled() -> None:
    machine = started()
    machine.engine.tpm.primes = None
    machine.cancelled = lambda: True
    before = machine.durable
    with refused(TPM_FAIL):
        machine.run(CreateEndorsementKeyPair(NONCE, STORAGE_PARMS))
    assert machine.durable == before


def test_both_say_the_same_of_endorsement_keys() -> None:
    with pair() as both:
        for parms in BAD_PARMS:
            both.agree(CreateEndorsementKeyPair(NONCE, parms))
            both.agree(CreateRevocableEK(NONCE, parms, 0, RESET))
        both.agree(ReadPubek(NONCE))
        both.agree(PhysicalPresence(TPM_PHYSICAL_PRESENCE_CMD_ENABLE))
        made = both.outcomes(CreateRevocableEK(NONCE, STORAGE_PARMS, 0, RESET))
        for client, response in zip(both.clients, made, strict=True):
            take_ownership(client, response.pub_endorsement_key)  # type: ignore[attr-defined]
        for handle in TPM_KH_OWNER, 1:
            both.agree(OwnerReadInternalPub(handle), lambda client: once(client.oiap(OWNER_AUTH)))
        both.agree(ReadPubek(NONCE))
        both.agree(CreateRevocableEK(NONCE, STORAGE_PARMS, 0, RESET))
        both.agree(RevokeTrust(b"?" * 20))
        both.agree(RevokeTrust(RESET))
        both.agree(PRESENT)
        both.agree(RevokeTrust(RESET))
        both.agree(ReadPubek(NONCE))


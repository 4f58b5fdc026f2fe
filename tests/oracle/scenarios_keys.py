"""Scenarios of objects, cryptography, duplication and attestation (Part 3, 12 to 21)."""

from __future__ import annotations

from typing import Any

from hwtpm.client import Password
from hwtpm.tpm2.requests.asymmetric import (
    ECCDecrypt,
    ECCEncrypt,
    ECCParameters,
    ECDHKeyGen,
    ECDHZGen,
    RSADecrypt,
    RSAEncrypt,
    ZGen2Phase,
)
from hwtpm.tpm2.requests.attestation import (
    Certify,
    CertifyCreation,
    CertifyX509,
    GetCommandAuditDigest,
    GetSessionAuditDigest,
    GetTime,
    Quote,
)
from hwtpm.tpm2.requests.audit import SetCommandCodeAuditStatus
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, EvictControl, FlushContext
from hwtpm.tpm2.requests.duplication import Duplicate, Import, Rewrap
from hwtpm.tpm2.requests.ephemeral import Commit, ECEphemeral
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import (
    ActivateCredential,
    Create,
    CreateLoaded,
    Load,
    LoadExternal,
    MakeCredential,
    ObjectChangeAuth,
    ReadPublic,
    Unseal,
)
from hwtpm.tpm2.requests.policy import PolicyCommandCode
from hwtpm.tpm2.requests.random import GetRandom
from hwtpm.tpm2.requests.sequence import (
    EventSequenceComplete,
    HashSequenceStart,
    HMACStart,
    SequenceComplete,
    SequenceUpdate,
)
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.requests.signing import Sign, VerifySignature
from hwtpm.tpm2.requests.symmetric import HMAC, EncryptDecrypt, EncryptDecrypt2, Hash
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMS_SENSITIVE_CREATE,
    TPMT_KDF_SCHEME,
    TPMT_RSA_DECRYPT,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import TPMA_OBJECT_ADMINWITHPOLICY, TPMA_SESSION_AUDIT
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_ECDAA,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_KDF2,
    TPM_ALG_NULL,
    TPM_ALG_OAEP,
    TPM_ALG_RSAES,
    TPM_ALG_RSASSA,
    TPM_ALG_SHA1,
    TPM_ALG_SHA256,
    TPM_ECC_NIST_P256,
    TPM_SE_HMAC,
    TPM_SE_POLICY,
    TPM_ST_HASHCHECK,
    TPM_CC_Duplicate,
    TPM_CC_GetRandom,
    TPM_CC_ObjectChangeAuth,
)
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_NULL, TPM_RH_OWNER, TPM_RH_PLATFORM
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_TK_HASHCHECK
from hwtpm.wire import encode, writer_of
from tests.oracle.scenario import Case, policy_digest, policy_session, scenario, simple
from tests.oracle.sides import Side, run
from tests.support import templates
from tests.support import tpm2_keys as keys
from tests.support.tpm2_either import INDEX, written

NO_SYMMETRIC = TPMT_SYM_DEF_OBJECT(TPM_ALG_NULL)
AES = TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB)
NO_SIGNING = TPMT_SIG_SCHEME(TPM_ALG_NULL)
ECDSA = TPMT_SIG_SCHEME(TPM_ALG_ECDSA, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
RSASSA = TPMT_SIG_SCHEME(TPM_ALG_RSASSA, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
OAEP = TPMT_RSA_DECRYPT(TPM_ALG_OAEP, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
NO_TICKET = TPMT_TK_HASHCHECK(TPM_ST_HASHCHECK, TPM_RH_NULL, b"")
PCR_SHA256 = TPMS_PCR_SELECTION(TPM_ALG_SHA256, b"\x01\0\x01")
MADE = "out_public.unique name qualified_name parent_name parent_qualified_name creation_hash"
FREE = templates.BASE & ~templates.FIXED


def primary(
    side: Side,
    public: TPMT_PUBLIC | None = None,
    hierarchy: int = TPM_RH_OWNER,
    *,
    auth: bytes = b"",
    data: bytes = b"",
) -> int:
    """Make a primary, a storage key unless told otherwise."""
    made = run(
        side,
        CreatePrimary(
            hierarchy, TPMS_SENSITIVE_CREATE(auth, data), public or keys.storage_template(), b"", []
        ),
    )
    side.client.names[made.object_handle] = made.name
    return made.object_handle


def child(side: Side, parent: int, public: TPMT_PUBLIC, *, auth: bytes = b"", data: bytes = b"") -> Any:
    """Create an object; return the response."""
    return run(side, Create(parent, TPMS_SENSITIVE_CREATE(auth, data), public, b"", []))


def loaded(side: Side, parent: int, public: TPMT_PUBLIC, *, auth: bytes = b"", data: bytes = b"") -> int:
    """Create an object and load it."""
    made = child(side, parent, public, auth=auth, data=data)
    found = run(side, Load(parent, made.out_private, made.out_public))
    side.client.names[found.object_handle] = found.name
    return found.object_handle


def external(
    side: Side, areas: keys.Areas, *, public_only: bool = False, hierarchy: int = TPM_RH_NULL
) -> int:
    return keys.load(side.client, areas, public_only=public_only, hierarchy=hierarchy)


# 12 Objects


@scenario(Create, varies=MADE)
def create_key(side: Side) -> Case:
    parent = primary(side, templates.storage(), auth=b"parent")
    return Case(
        Create(parent, TPMS_SENSITIVE_CREATE(b"child", b""), templates.ecc(), b"outside", [PCR_SHA256]),
        b"parent",
    )


@scenario(Create, varies=MADE)
def create_sealed(side: Side) -> Case:
    return Case(Create(primary(side), TPMS_SENSITIVE_CREATE(b"", b"sealed"), templates.keyed_hash(), b"", []))


@scenario(Create, varies=MADE)
def create_hmac_key(side: Side) -> Case:
    public = templates.keyed_hash(templates.SIGNING, templates.HMAC)
    return Case(Create(primary(side), TPMS_SENSITIVE_CREATE(b"", b""), public, b"", []))


@scenario(Create, varies=MADE)
def create_cipher_key(side: Side) -> Case:
    return Case(Create(primary(side), TPMS_SENSITIVE_CREATE(b"", b""), templates.cipher_key(), b"", []))


@scenario(Create, varies=MADE, thin=True)
def create_rsa_key(side: Side) -> Case:
    return Case(Create(primary(side), TPMS_SENSITIVE_CREATE(b"", b""), templates.rsa(), b"", []))


@scenario(Load, varies=MADE)
def load(side: Side) -> Case:
    parent = primary(side)
    made = child(side, parent, templates.keyed_hash(), data=b"sealed")
    return Case(Load(parent, made.out_private, made.out_public))


@scenario(LoadExternal)
def load_external_ecc(side: Side) -> Case:
    public, sensitive = keys.elliptic(keys.SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256)
    return Case(LoadExternal(sensitive, public, TPM_RH_NULL))


@scenario(LoadExternal)
def load_external_public(side: Side) -> Case:
    public, _ = keys.elliptic(keys.DECRYPT)
    return Case(LoadExternal(None, public, TPM_RH_OWNER))


@scenario(LoadExternal)
def load_external_rsa(side: Side) -> Case:
    public, sensitive = keys.rsa(keys.SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256)
    return Case(LoadExternal(sensitive, public, TPM_RH_NULL))


@scenario(LoadExternal)
def load_external_hmac(side: Side) -> Case:
    public, sensitive = keys.keyed_hash(keys.SIGN)
    return Case(LoadExternal(sensitive, public, TPM_RH_NULL))


@scenario(LoadExternal)
def load_external_cipher(side: Side) -> Case:
    public, sensitive = keys.cipher(keys.SIGN | keys.DECRYPT)
    return Case(LoadExternal(sensitive, public, TPM_RH_NULL))


@scenario(ReadPublic)
def read_public(side: Side) -> Case:
    return Case(ReadPublic(external(side, keys.elliptic(keys.SIGN))))


@scenario(MakeCredential)
def make_credential(side: Side) -> Case:
    public, _ = keys.rsa(keys.DECRYPT | keys.RESTRICTED)
    public.parameters.symmetric = AES  # type: ignore[union-attr]
    key = run(side, LoadExternal(None, public, TPM_RH_OWNER)).object_handle
    return Case(MakeCredential(key, b"credential", b"\0\x0b" + bytes(32)))


@scenario(MakeCredential)
def make_credential_storage(side: Side) -> Case:
    return Case(MakeCredential(primary(side), b"credential", b"\0\x0b" + bytes(32)))


@scenario(ActivateCredential, unlike="credential_blob.size lies")
def activate_credential(side: Side) -> Case:
    parent = primary(side, templates.storage(), TPM_RH_ENDORSEMENT, auth=b"parent")
    key = primary(side, auth=b"key")
    made = run(side, MakeCredential(parent, b"credential", side.client.names[key]))
    return Case(ActivateCredential(key, parent, made.credential_blob, made.secret), b"key", b"parent")


@scenario(Unseal)
def unseal(side: Side) -> Case:
    return Case(
        Unseal(loaded(side, primary(side), templates.keyed_hash(), auth=b"pin", data=b"sealed")), b"pin"
    )


@scenario(Unseal)
def unseal_primary(side: Side) -> Case:
    return Case(Unseal(primary(side, templates.keyed_hash(), data=b"sealed")))


@scenario(ObjectChangeAuth)
def object_change_auth(side: Side) -> Case:
    parent = primary(side)
    return Case(ObjectChangeAuth(loaded(side, parent, templates.ecc(), auth=b"old"), parent, b"new"), b"old")


@scenario(ObjectChangeAuth)
def object_change_auth_by_policy(side: Side) -> Case:
    allow = [lambda s: PolicyCommandCode(s, TPM_CC_ObjectChangeAuth)]
    public = templates.ecc(
        templates.SIGNING | TPMA_OBJECT_ADMINWITHPOLICY, policy=policy_digest(side, *allow)
    )
    parent = primary(side)
    key = loaded(side, parent, public)
    return Case(ObjectChangeAuth(key, parent, b"new"), policy_session(side, *allow))


@scenario(CreateLoaded, varies=MADE)
def create_loaded(side: Side) -> Case:
    return Case(CreateLoaded(primary(side), TPMS_SENSITIVE_CREATE(b"new", b""), encode(templates.ecc())))


@scenario(CreateLoaded, varies=MADE)
def create_loaded_primary(side: Side) -> Case:
    return Case(CreateLoaded(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"new", b""), encode(templates.storage())))


@scenario(CreatePrimary, varies=MADE)
def create_primary(side: Side) -> Case:
    return Case(
        CreatePrimary(
            TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"auth", b""), templates.storage(), b"outside", [PCR_SHA256]
        )
    )


@scenario(CreatePrimary, varies=MADE)
def create_primary_signing(side: Side) -> Case:
    return Case(
        CreatePrimary(TPM_RH_ENDORSEMENT, TPMS_SENSITIVE_CREATE(b"", b""), keys.signing_template(), b"", [])
    )


@scenario(CreatePrimary, varies=MADE)
def create_primary_sealed(side: Side) -> Case:
    return Case(
        CreatePrimary(
            TPM_RH_PLATFORM,
            TPMS_SENSITIVE_CREATE(b"", b"sealed"),
            templates.keyed_hash(),
            b"",
            [PCR_SHA256, TPMS_PCR_SELECTION(TPM_ALG_SHA1, b"\xff\0\0")],
        )
    )


@scenario(CreatePrimary, varies=MADE)
def create_primary_cipher(side: Side) -> Case:
    return Case(CreatePrimary(TPM_RH_NULL, TPMS_SENSITIVE_CREATE(b"", b""), templates.cipher_key(), b"", []))


# 13 Duplication


def duplicable(side: Side, parent: int) -> tuple[int, Any]:
    """Return a key that may be duplicated, and the session that allows it."""
    allow = [lambda s: PolicyCommandCode(s, TPM_CC_Duplicate)]
    key = loaded(side, parent, templates.ecc(FREE | keys.SIGN, policy=policy_digest(side, *allow)))
    return key, policy_session(side, *allow)


@scenario(Duplicate)
def duplicate(side: Side) -> Case:
    key, session = duplicable(side, primary(side))
    return Case(Duplicate(key, TPM_RH_NULL, b"", NO_SYMMETRIC), session)


@scenario(Duplicate)
def duplicate_wrapped(side: Side) -> Case:
    parent = primary(side)
    key, session = duplicable(side, parent)
    return Case(Duplicate(key, parent, bytes(16), AES), session)


@scenario(Rewrap)
def rewrap(side: Side) -> Case:
    parent = primary(side)
    key, session = duplicable(side, parent)
    made = run(side, Duplicate(key, parent, b"", NO_SYMMETRIC), session)
    return Case(Rewrap(parent, parent, made.duplicate, side.client.names[key], made.out_sym_seed))


@scenario(Import)
def import_plain(side: Side) -> Case:
    public, sensitive = keys.elliptic(keys.SIGN)
    area = encode(sensitive)
    return Case(Import(primary(side), b"", public, len(area).to_bytes(2, "big") + area, b"", NO_SYMMETRIC))


@scenario(Import)
def import_wrapped(side: Side) -> Case:
    parent = primary(side)
    key, session = duplicable(side, parent)
    made = run(side, Duplicate(key, parent, bytes(range(16)), AES), session)
    public = run(side, ReadPublic(key)).out_public
    return Case(Import(parent, bytes(range(16)), public, made.duplicate, made.out_sym_seed, AES))


# 14 and 15 Asymmetric and symmetric primitives


@scenario(RSAEncrypt)
def rsa_encrypt(side: Side) -> Case:
    key = external(side, keys.rsa(keys.DECRYPT), public_only=True)
    return Case(RSAEncrypt(key, b"message", OAEP, b"label\0"))


@scenario(RSAEncrypt)
def rsa_encrypt_raw(side: Side) -> Case:
    key = external(side, keys.rsa(keys.DECRYPT), public_only=True)
    return Case(RSAEncrypt(key, b"\1" * 255, TPMT_RSA_DECRYPT(TPM_ALG_NULL), b""))


@scenario(RSADecrypt)
def rsa_decrypt(side: Side) -> Case:
    key = external(side, keys.rsa(keys.DECRYPT, auth=b"key"))
    sealed = run(side, RSAEncrypt(key, b"message", OAEP, b"label\0")).out_data
    return Case(RSADecrypt(key, sealed, OAEP, b"label\0"), b"key")


@scenario(RSADecrypt)
def rsa_decrypt_rsaes(side: Side) -> Case:
    key = external(side, keys.rsa(keys.DECRYPT, TPM_ALG_RSAES))
    sealed = run(side, RSAEncrypt(key, b"message", TPMT_RSA_DECRYPT(TPM_ALG_NULL), b"")).out_data
    return Case(RSADecrypt(key, sealed, TPMT_RSA_DECRYPT(TPM_ALG_RSAES), b""))


@scenario(ECDHKeyGen)
def ecdh_key_gen(side: Side) -> Case:
    return Case(ECDHKeyGen(external(side, keys.elliptic(keys.DECRYPT), public_only=True)))


@scenario(ECDHZGen)
def ecdh_z_gen(side: Side) -> Case:
    areas = keys.elliptic(keys.DECRYPT, auth=b"key")
    point = areas[0].unique
    assert isinstance(point, TPMS_ECC_POINT)
    return Case(ECDHZGen(external(side, areas), point), b"key")


@scenario(ZGen2Phase)
def z_gen_2_phase(side: Side) -> Case:
    areas = keys.elliptic(keys.DECRYPT)
    point = areas[0].unique
    assert isinstance(point, TPMS_ECC_POINT)
    key = external(side, areas)
    counter = run(side, ECEphemeral(TPM_ECC_NIST_P256)).counter
    return Case(ZGen2Phase(key, point, point, TPM_ALG_ECDH, counter))


@scenario(ECCEncrypt)
def ecc_encrypt(side: Side) -> Case:
    key = external(side, keys.elliptic(keys.DECRYPT), public_only=True)
    scheme = TPMT_KDF_SCHEME(TPM_ALG_KDF2, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
    return Case(ECCEncrypt(key, b"message", scheme))


@scenario(ECCDecrypt)
def ecc_decrypt(side: Side) -> Case:
    key = external(side, keys.elliptic(keys.DECRYPT, auth=b"key"))
    scheme = TPMT_KDF_SCHEME(TPM_ALG_KDF2, TPMS_SCHEME_HASH(TPM_ALG_SHA256))
    made = run(side, ECCEncrypt(key, b"message", scheme))
    return Case(ECCDecrypt(key, made.c1, made.c2, made.c3, scheme), b"key")


simple(ECCParameters(TPM_ECC_NIST_P256))


@scenario(EncryptDecrypt)
def encrypt_decrypt(side: Side) -> Case:
    key = external(side, keys.cipher(keys.SIGN | keys.DECRYPT))
    return Case(EncryptDecrypt(key, 0, TPM_ALG_CFB, bytes(16), b"message of more than a block"))


@scenario(EncryptDecrypt2)
def encrypt_decrypt_2(side: Side) -> Case:
    key = external(side, keys.cipher(keys.SIGN | keys.DECRYPT, TPM_ALG_CFB))
    return Case(EncryptDecrypt2(key, b"message of 32 octets............", 1, TPM_ALG_CFB, bytes(16)))


simple(Hash(b"message", TPM_ALG_SHA256, TPM_RH_OWNER))
simple(Hash(b"\xffTCG", TPM_ALG_SHA1, TPM_RH_NULL), "hash_generated_value")


@scenario(HMAC)
def hmac(side: Side) -> Case:
    return Case(HMAC(external(side, keys.keyed_hash(keys.SIGN)), b"message", TPM_ALG_SHA256))


# 17 Sequences


@scenario(HMACStart)
def hmac_start(side: Side) -> Case:
    return Case(HMACStart(external(side, keys.keyed_hash(keys.SIGN)), b"auth", TPM_ALG_NULL))


simple(HashSequenceStart(b"auth", TPM_ALG_SHA256))


@scenario(SequenceUpdate)
def sequence_update(side: Side) -> Case:
    sequence = run(side, HashSequenceStart(b"auth", TPM_ALG_SHA256)).sequence_handle
    return Case(SequenceUpdate(sequence, b"message"), b"auth")


@scenario(SequenceComplete)
def sequence_complete(side: Side) -> Case:
    sequence = run(side, HashSequenceStart(b"auth", TPM_ALG_SHA256)).sequence_handle
    run(side, SequenceUpdate(sequence, b"message"), Password(b"auth"))
    return Case(SequenceComplete(sequence, b"more", TPM_RH_OWNER), b"auth")


@scenario(SequenceComplete)
def sequence_complete_hmac(side: Side) -> Case:
    key = external(side, keys.keyed_hash(keys.SIGN))
    sequence = run(side, HMACStart(key, b"", TPM_ALG_SHA256)).sequence_handle
    return Case(SequenceComplete(sequence, b"message", TPM_RH_NULL))


@scenario(EventSequenceComplete)
def event_sequence_complete(side: Side) -> Case:
    sequence = run(side, HashSequenceStart(b"auth", TPM_ALG_NULL)).sequence_handle
    return Case(EventSequenceComplete(16, sequence, b"event"), b"", b"auth")


# 18 Attestation


@scenario(Certify)
def certify(side: Side) -> Case:
    signer = external(side, keys.rsa(keys.SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256, auth=b"signer"))
    subject = external(side, keys.elliptic(keys.SIGN, auth=b"subject"))
    return Case(Certify(subject, signer, b"qualifying", NO_SIGNING), b"subject", b"signer")


@scenario(Certify)
def certify_unsigned(side: Side) -> Case:
    return Case(Certify(external(side, keys.elliptic(keys.SIGN)), TPM_RH_NULL, b"qualifying", NO_SIGNING))


@scenario(CertifyCreation, varies=f"object_name qualified_signer {MADE}")
def certify_creation(side: Side) -> Case:
    made = run(
        side, CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), keys.signing_template(), b"", [])
    )
    side.client.names[made.object_handle] = made.name
    return Case(
        CertifyCreation(
            made.object_handle, made.object_handle, b"q", made.creation_hash, NO_SIGNING, made.creation_ticket
        )
    )


@scenario(Quote)
def quote(side: Side) -> Case:
    signer = external(side, keys.rsa(keys.SIGN, TPM_ALG_RSASSA, TPM_ALG_SHA256, auth=b"signer"))
    return Case(Quote(signer, b"qualifying", RSASSA, [PCR_SHA256]), b"signer")


@scenario(Quote, varies="qualified_signer")
def quote_restricted(side: Side) -> Case:
    return Case(Quote(primary(side, keys.signing_template()), b"", NO_SIGNING, [PCR_SHA256]))


@scenario(GetTime)
def get_time(side: Side) -> Case:
    return Case(GetTime(TPM_RH_ENDORSEMENT, external(side, keys.elliptic(keys.SIGN)), b"qualifying", ECDSA))


@scenario(GetSessionAuditDigest)
def get_session_audit_digest(side: Side) -> Case:
    session = side.client.start_session(TPM_SE_HMAC)
    session.attributes |= TPMA_SESSION_AUDIT
    side.client.run(GetRandom(0), session)
    signer = external(side, keys.elliptic(keys.SIGN))
    return Case(GetSessionAuditDigest(TPM_RH_ENDORSEMENT, signer, session.handle, b"q", ECDSA))


@scenario(GetCommandAuditDigest)
def get_command_audit_digest(side: Side) -> Case:
    run(side, SetCommandCodeAuditStatus(TPM_RH_OWNER, TPM_ALG_NULL, [TPM_CC_GetRandom], []))
    run(side, GetRandom(0))
    return Case(
        GetCommandAuditDigest(TPM_RH_ENDORSEMENT, external(side, keys.elliptic(keys.SIGN)), b"q", ECDSA)
    )


@scenario(SetCommandCodeAuditStatus)
def set_command_code_audit_status(side: Side) -> Case:
    return Case(SetCommandCodeAuditStatus(TPM_RH_OWNER, TPM_ALG_NULL, [TPM_CC_GetRandom, 0x17E], [0x17A]))


@scenario(SetCommandCodeAuditStatus)
def set_audit_algorithm(side: Side) -> Case:
    return Case(SetCommandCodeAuditStatus(TPM_RH_PLATFORM, TPM_ALG_SHA1, [], []))


@scenario(CertifyX509)
def certify_x509(side: Side) -> Case:
    # Issuer, validity, subject and the extension keyUsage (digitalSignature), in DER; an RFC 5280 skeleton.
    name = bytes.fromhex("300c310a300806035504030c0161")
    validity = bytes.fromhex("301e170d3230303130313030303030305a170d3330303130313030303030305a")
    usage = bytes.fromhex("a3123010300e0603551d0f0101ff040403020780")
    inner = name + validity + name + usage
    signer = external(side, keys.rsa(keys.SIGN))
    subject = external(side, keys.elliptic(keys.SIGN | 1 << 19))
    return Case(CertifyX509(subject, signer, b"", RSASSA, bytes([0x30, len(inner)]) + inner))


# 19 and 20 Ephemeral keys and signatures


simple(ECEphemeral(TPM_ECC_NIST_P256))


@scenario(Commit)
def commit(side: Side) -> Case:
    public, sensitive = keys.elliptic(keys.SIGN)
    from hwtpm.tpm2.types.algorithms import TPMS_SCHEME_ECDAA, TPMT_ECC_SCHEME

    public.parameters.scheme = TPMT_ECC_SCHEME(  # type: ignore[union-attr]
        TPM_ALG_ECDAA, TPMS_SCHEME_ECDAA(TPM_ALG_SHA256, 1)
    )
    point = public.unique
    assert isinstance(point, TPMS_ECC_POINT)
    return Case(Commit(external(side, (public, sensitive)), point, b"", b""))


@scenario(Sign)
def sign_rsa(side: Side) -> Case:
    return Case(Sign(external(side, keys.rsa(keys.SIGN, auth=b"key")), bytes(32), RSASSA, NO_TICKET), b"key")


@scenario(Sign)
def sign_ecc(side: Side) -> Case:
    key = external(side, keys.elliptic(keys.SIGN, TPM_ALG_ECDSA, TPM_ALG_SHA256))
    return Case(Sign(key, bytes(32), NO_SIGNING, NO_TICKET))


@scenario(Sign)
def sign_restricted(side: Side) -> Case:
    key = primary(side, keys.signing_template())
    hashed = run(side, Hash(b"message", TPM_ALG_SHA256, TPM_RH_OWNER))
    return Case(Sign(key, hashed.out_hash, NO_SIGNING, hashed.validation))


@scenario(Sign)
def sign_hmac(side: Side) -> Case:
    return Case(Sign(external(side, keys.keyed_hash(keys.SIGN)), bytes(32), NO_SIGNING, NO_TICKET))


@scenario(VerifySignature)
def verify_rsa(side: Side) -> Case:
    key = external(side, keys.rsa(keys.SIGN), hierarchy=TPM_RH_NULL)
    made = run(side, Sign(key, bytes(32), RSASSA, NO_TICKET))
    return Case(VerifySignature(key, bytes(32), made.signature))


@scenario(VerifySignature)
def verify_ecc(side: Side) -> Case:
    areas = keys.elliptic(keys.SIGN)
    key = external(side, areas)
    made = run(side, Sign(key, bytes(32), ECDSA, NO_TICKET))
    run(side, FlushContext(key))
    key = external(side, areas, public_only=True, hierarchy=TPM_RH_OWNER)
    return Case(VerifySignature(key, bytes(32), made.signature))


# 11 and 28 Sessions and contexts


@scenario(StartAuthSession)
def start_auth_session(side: Side) -> Case:
    return Case(
        StartAuthSession(
            TPM_RH_NULL,
            TPM_RH_NULL,
            bytes(16),
            b"",
            TPM_SE_HMAC,
            TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB),
            TPM_ALG_SHA256,
        )
    )


@scenario(StartAuthSession)
def start_bound_session(side: Side) -> Case:
    written(side.client, b"pin")
    return Case(
        StartAuthSession(
            TPM_RH_NULL, INDEX, bytes(32), b"", TPM_SE_POLICY, TPMT_SYM_DEF(TPM_ALG_NULL), TPM_ALG_SHA256
        )
    )


@scenario(StartAuthSession)
def start_rsa_salted_session(side: Side) -> Case:
    key = external(side, keys.rsa(keys.DECRYPT))
    salt = run(side, RSAEncrypt(key, bytes(32), OAEP, b"SECRET\0")).out_data
    return Case(
        StartAuthSession(
            key, TPM_RH_NULL, bytes(20), salt, TPM_SE_HMAC, TPMT_SYM_DEF(TPM_ALG_NULL), TPM_ALG_SHA1
        )
    )


@scenario(StartAuthSession)
def start_ecc_salted_session(side: Side) -> Case:
    key = external(side, keys.elliptic(keys.DECRYPT))
    point = run(side, ECDHKeyGen(key)).pub_point
    return Case(
        StartAuthSession(
            key,
            TPM_RH_OWNER,
            bytes(32),
            writer_of(TPMS_ECC_POINT)(point),
            TPM_SE_HMAC,
            TPMT_SYM_DEF(TPM_ALG_NULL),
            TPM_ALG_SHA256,
        )
    )


@scenario(ContextSave)
def context_save_object(side: Side) -> Case:
    return Case(ContextSave(external(side, keys.keyed_hash(keys.SIGN))))


@scenario(ContextSave)
def context_save_session(side: Side) -> Case:
    return Case(ContextSave(side.client.start_session().handle))


@scenario(ContextSave)
def context_save_sequence(side: Side) -> Case:
    return Case(ContextSave(run(side, HashSequenceStart(b"", TPM_ALG_SHA256)).sequence_handle))


@scenario(ContextLoad, unlike="sequence = 0x1$")
def context_load_object(side: Side) -> Case:
    return Case(ContextLoad(run(side, ContextSave(external(side, keys.keyed_hash(keys.SIGN)))).context))


@scenario(ContextLoad)
def context_load_session(side: Side) -> Case:
    return Case(ContextLoad(run(side, ContextSave(side.client.start_session().handle)).context))


@scenario(FlushContext)
def flush_object(side: Side) -> Case:
    return Case(FlushContext(external(side, keys.keyed_hash(keys.SIGN))))


@scenario(FlushContext)
def flush_saved_session(side: Side) -> Case:
    session = side.client.start_session().handle
    run(side, ContextSave(session))
    return Case(FlushContext(session))


@scenario(EvictControl)
def evict_control_store(side: Side) -> Case:
    return Case(EvictControl(TPM_RH_OWNER, primary(side), 0x81000001))


@scenario(EvictControl)
def evict_control_remove(side: Side) -> Case:
    run(side, EvictControl(TPM_RH_OWNER, primary(side), 0x81000001))
    return Case(EvictControl(TPM_RH_OWNER, 0x81000001, 0x81000001))


@scenario(EvictControl)
def evict_control_platform(side: Side) -> Case:
    return Case(EvictControl(TPM_RH_PLATFORM, primary(side, hierarchy=TPM_RH_PLATFORM), 0x81800001))

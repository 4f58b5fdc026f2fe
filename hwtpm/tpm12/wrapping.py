"""Making keys, and their encrypted parts (Part 1, 25 and 31; Part 2, 10; Part 3, 10.4 and 10.5)."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import ids
from hwtpm.crypto.errors import BadKey, Cancelled, CryptoError, OutOfRange
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import TpmError
from hwtpm.tpm12.context import Tpm
from hwtpm.tpm12.profile import DEFAULT_EXPONENT, RSA_KEY_BITS
from hwtpm.tpm12.state.keys import Key, exponent_of, pcr_info_of, pub_data_digest
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_VERSION,
    TPM_DECRYPT_ERROR,
    TPM_FAIL,
    TPM_INAPPROPRIATE_ENC,
    TPM_INVALID_STRUCTURE,
    TPM_NOTFIPS,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_RSA,
    TPM_AUTH_NEVER,
    TPM_ES_NONE,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_KEY_AUTHCHANGE,
    TPM_KEY_BIND,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_MIGRATE,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_PT_ASYM,
    TPM_PT_MIGRATE_EXTERNAL,
    TPM_PT_MIGRATE_RESTRICTED,
    TPM_SS_NONE,
    TPM_TAG_KEY12,
    TPM_ES_RSAESPKCSv15,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_INFO,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.key import (
    STRUCT_VER_1_1,
    TPM_KEY,
    TPM_KEY_PARMS,
    TPM_PUBKEY,
    TPM_RSA_KEY_PARMS,
    TPM_STORE_ASYMKEY,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO, TPM_PCR_INFO_LONG
from hwtpm.wire import decode, encode

OAEP_LABEL: Final = b"TCPA"  # the P of every OAEP block (Part 1, 31.1.1)

_MAX_EXPONENT: Final = 0xFFFFFFFF
_OAEP: Final = frozenset({TPM_ES_RSAESOAEP_SHA1_MGF1})
_ENCRYPTION: Final = _OAEP | {TPM_ES_RSAESPKCSv15}
_NO_ES, _NO_SS = frozenset({TPM_ES_NONE}), frozenset({TPM_SS_NONE})
# Of each key usage: the encryption schemes, the signature schemes, the least number of bits, and whether the
# exponent has to be the default one (Part 2, 5.8.1; Part 3, 10.4).
_USAGES: Final = {
    TPM_KEY_SIGNING: (_NO_ES, frozenset({
        TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_DER, TPM_SS_RSASSAPKCS1v15_INFO}), 0, False),
    TPM_KEY_STORAGE: (_OAEP, _NO_SS, 2048, True),
    TPM_KEY_IDENTITY: (_NO_ES, frozenset({TPM_SS_RSASSAPKCS1v15_SHA1}), 2048, True),
    TPM_KEY_AUTHCHANGE: (_OAEP, _NO_SS, 512, False),
    TPM_KEY_BIND: (_ENCRYPTION, _NO_SS, 0, False),
    TPM_KEY_LEGACY: (_ENCRYPTION, frozenset({
        TPM_SS_RSASSAPKCS1v15_SHA1, TPM_SS_RSASSAPKCS1v15_DER}), 0, False),
    TPM_KEY_MIGRATE: (_OAEP, _NO_SS, 2048, True),
}


def rsa_parms(parms: TPM_KEY_PARMS) -> TPM_RSA_KEY_PARMS:
    """Return the RSA parameters; TPM_BAD_KEY_PROPERTY for another algorithm."""
    if parms.algorithm_id != TPM_ALG_RSA:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    return decode(TPM_RSA_KEY_PARMS, parms.parms)


def is_key12(public: TPM_KEY) -> bool:
    """Tell a TPM_KEY12 from a TPM_KEY (Part 2, 10.2 and 10.3).

    A tag begins with a zero octet and a version does not: TPM_BAD_VERSION for another version,
    TPM_BAD_KEY_PROPERTY for another tag.
    """
    if public.tag == TPM_TAG_KEY12 and not public.fill:
        return True
    if public.tag == STRUCT_VER_1_1:  # The revision is ignored on input.
        return False
    raise TpmError(TPM_BAD_VERSION if public.tag >> 8 else TPM_BAD_KEY_PROPERTY)


def check_parms(parms: TPM_KEY_PARMS, usage: int, *, fips: bool = False) -> TPM_RSA_KEY_PARMS:
    """Return the RSA parameters of a key of that *usage* that this TPM can work with (Part 2, 5.8.1).

    Else TPM_BAD_KEY_PROPERTY, or TPM_NOTFIPS for what *fips* forbids.
    """
    rsa = rsa_parms(parms)
    if rsa.key_length not in RSA_KEY_BITS or rsa.num_primes != 2:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    if fips and (rsa.key_length < 1024 or usage == TPM_KEY_LEGACY):
        raise TpmError(TPM_NOTFIPS)
    if usage not in _USAGES:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    encryption, signature, bits, default_exponent = _USAGES[usage]
    if parms.enc_scheme not in encryption or parms.sig_scheme not in signature or rsa.key_length < bits:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    if default_exponent and exponent_of(rsa) != DEFAULT_EXPONENT:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    return rsa


def check_properties(public: TPM_KEY, *, fips: bool = False) -> None:
    """*public* describes a key that this TPM can make and use; else TPM_BAD_KEY_PROPERTY or TPM_NOTFIPS.

    TpmError for PCR information that cannot be read.
    """
    is_key12(public)
    pcr_info_of(public)
    if fips and public.auth_data_usage == TPM_AUTH_NEVER:
        raise TpmError(TPM_NOTFIPS)
    check_parms(public.algorithm_parms, public.key_usage, fips=fips)


def generate(tpm: Tpm, template: TPM_KEY, payload: int, usage_auth: bytes, migration_auth: bytes) -> Key:
    """Return a new key as *template* describes it, whose PCR information tells its creation.

    Takes primes that were found ahead where there are some.  Ends with TPM_FAIL when cancelled.
    """
    rsa = rsa_parms(template.algorithm_parms)
    exponent = exponent_of(rsa)
    if exponent > _MAX_EXPONENT:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    p, q = _primes(tpm, rsa.key_length, exponent)
    octets = rsa.key_length // 8
    # What follows the tag or the version is zero on output (Part 2, 5.1 and 10.3).
    public = TPM_KEY(template.tag, 0, template.key_usage, template.key_flags,
                     template.auth_data_usage, template.algorithm_parms, _created_info(tpm, template),
                     (p * q).to_bytes(octets, "big"), b"")
    return Key(public, payload, usage_auth, migration_auth, p.to_bytes(octets // 2, "big"))


def _primes(tpm: Tpm, bits: int, exponent: int) -> tuple[int, int]:
    if tpm.primes is not None and (found := tpm.primes(bits, exponent)) is not None:
        return found
    from hwtpm.crypto.primes import generate_rsa

    try:
        return generate_rsa(bits, exponent, tpm.random, tpm.cancelled)
    except Cancelled:
        raise TpmError(TPM_FAIL) from None
    except OutOfRange:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None


def _created_info(tpm: Tpm, template: TPM_KEY) -> bytes:
    """Return the PCR information of *template* with what holds at this moment."""
    info = pcr_info_of(template)
    if info is None:
        return b""
    record_creation(tpm, info)
    return encode(info)


def record_creation(tpm: Tpm, info: TPM_PCR_INFO | TPM_PCR_INFO_LONG) -> None:
    """*info* tells the PCRs and the locality of this moment as those of its creation."""
    if isinstance(info, TPM_PCR_INFO):
        info.digest_at_creation = tpm.pcrs.digest(info.pcr_selection.pcr_select)
    else:
        info.locality_at_creation = 1 << tpm.locality
        info.digest_at_creation = tpm.pcrs.digest(info.creation_pcr_selection.pcr_select)


def wrap(key: Key, parent: Key) -> TPM_KEY:
    """Return *key* as it leaves the TPM: its private part encrypted under *parent* (Part 2, 10.6)."""
    stored = TPM_STORE_ASYMKEY(key.payload, key.usage_auth, key.migration_auth, key.pub_data_digest,
                               key.prime)
    return with_enc_data(key.public, encrypt(parent.rsa, encode(stored)))


def with_enc_data(public: TPM_KEY, enc_data: bytes) -> TPM_KEY:
    """Return *public* with that encrypted part."""
    return TPM_KEY(public.tag, public.fill, public.key_usage, public.key_flags, public.auth_data_usage,
                   public.algorithm_parms, public.pcr_info, public.pub_key, enc_data)


def unwrap(public: TPM_KEY, parent: Key) -> Key:
    """Return the key whose encrypted part is under *parent*.

    TPM_DECRYPT_ERROR for another parent, TPM_AUTHFAIL for a private part of another key,
    TPM_BAD_KEY_PROPERTY for a modulus that does not belong to it, and what `private_part` raises.
    """
    stored = private_part(decrypt(parent, public.enc_data))
    if stored.pub_data_digest != pub_data_digest(public):
        raise TpmError(TPM_AUTHFAIL)
    try:
        return Key(with_enc_data(public, b""), stored.payload, stored.usage_auth, stored.migration_auth,
                   stored.priv_key)
    except BadKey:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None


def private_part(octets: bytes) -> TPM_STORE_ASYMKEY:
    """Return the private part of a key; TPM_INVALID_STRUCTURE for anything else (Part 2, 10.6)."""
    stored = decode(TPM_STORE_ASYMKEY, octets)
    if stored.payload not in (TPM_PT_ASYM, TPM_PT_MIGRATE_RESTRICTED, TPM_PT_MIGRATE_EXTERNAL):
        raise TpmError(TPM_INVALID_STRUCTURE)
    return stored


def public_key(pubkey: TPM_PUBKEY) -> RsaPublic:
    """Return the live key of *pubkey*; TPM_BAD_KEY_PROPERTY for one that this TPM cannot work with.

    It can be longer than the keys that this TPM makes.
    """
    rsa = rsa_parms(pubkey.algorithm_parms)
    if len(pubkey.pub_key) * 8 != rsa.key_length:
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    try:
        return RsaPublic(pubkey.pub_key, exponent_of(rsa))
    except BadKey:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None


def encrypt(key: RsaPublic, message: bytes, scheme: int = TPM_ES_RSAESOAEP_SHA1_MGF1) -> bytes:
    """Return *message* encrypted under *key*.

    TPM_BAD_DATASIZE if it is too long for the key, TPM_INAPPROPRIATE_ENC for another *scheme* (TPM_ES).
    """
    try:
        if scheme == TPM_ES_RSAESOAEP_SHA1_MGF1:
            return key.encrypt_oaep(ids.SHA1, OAEP_LABEL, message)
        if scheme == TPM_ES_RSAESPKCSv15:
            return key.encrypt_pkcs1(message)
    except OutOfRange:
        raise TpmError(TPM_BAD_DATASIZE) from None
    except BadKey:
        raise TpmError(TPM_BAD_KEY_PROPERTY) from None
    raise TpmError(TPM_INAPPROPRIATE_ENC)


def decrypt(key: Key, cipher: bytes) -> bytes:
    """Return the message that has been encrypted under *key* and its scheme.

    TPM_BAD_DATASIZE for more octets than the modulus has, TPM_DECRYPT_ERROR for anything else that is not a
    message, TPM_INAPPROPRIATE_ENC for a key that does not encrypt.
    """
    if len(cipher) > key.rsa.size:
        raise TpmError(TPM_BAD_DATASIZE)
    scheme = key.public.algorithm_parms.enc_scheme
    try:
        if scheme == TPM_ES_RSAESOAEP_SHA1_MGF1:
            return key.rsa.decrypt_oaep(ids.SHA1, OAEP_LABEL, cipher)
        if scheme == TPM_ES_RSAESPKCSv15:
            return key.rsa.decrypt_pkcs1(cipher)
    except CryptoError:
        raise TpmError(TPM_DECRYPT_ERROR) from None
    raise TpmError(TPM_INAPPROPRIATE_ENC)

"""What makes a public area acceptable: attributes, schemes, and its agreement with a sensitive area.

The rules are those of Part 2, 8.3.3 and Part 3, 12.1 to 12.3.  All functions return nothing when the area is
good and raise a TpmError without a parameter number otherwise: the handler knows which parameter it was.
*parent* is None for a primary and for an external object; a primary seed counts as a parent with fixedTPM,
fixedParent, restricted and decrypt SET (Part 3, 24.1).
"""

from __future__ import annotations

import hmac
from typing import Final

from hwtpm.crypto import hashes
from hwtpm.crypto.symmetric import is_tdes_key
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import (
    ECC_KEY_EXCHANGES,
    ECC_SIGNING_SCHEMES,
    MAC_SCHEMES,
    RSA_ENCRYPTION_SCHEMES,
    RSA_SIGNING_SCHEMES,
)
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SCHEME_XOR,
    TPMS_SENSITIVE_CREATE,
    TPMS_SYMCIPHER_PARMS,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_ENCRYPTEDDUPLICATION,
    TPMA_OBJECT_FIRMWARELIMITED,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
    TPMA_OBJECT_SVNLIMITED,
    TPMA_OBJECT_X509SIGN,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_ECC,
    TPM_ALG_HMAC,
    TPM_ALG_KDF1_SP800_108,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_ALG_TDES,
    TPM_ALG_XOR,
    TPM_RC_ATTRIBUTES,
    TPM_RC_BINDING,
    TPM_RC_ECC_POINT,
    TPM_RC_HASH,
    TPM_RC_KDF,
    TPM_RC_KEY,
    TPM_RC_KEY_SIZE,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
    TPM_RC_SYMMETRIC,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import (
    TPMS_ECC_PARMS,
    TPMS_KEYEDHASH_PARMS,
    TPMS_RSA_PARMS,
    TPMT_PUBLIC,
    TPMT_SENSITIVE,
)

ASYMMETRIC: Final = (TPM_ALG_RSA, TPM_ALG_ECC)
_USES: Final = TPMA_OBJECT_SIGN | TPMA_OBJECT_DECRYPT
_PARENT: Final = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT
LIMITED: Final = TPMA_OBJECT_FIRMWARELIMITED | TPMA_OBJECT_SVNLIMITED
_SIGNING: Final = {TPM_ALG_RSA: RSA_SIGNING_SCHEMES, TPM_ALG_ECC: ECC_SIGNING_SCHEMES}
_DECRYPTION: Final = {TPM_ALG_RSA: RSA_ENCRYPTION_SCHEMES, TPM_ALG_ECC: ECC_KEY_EXCHANGES}
_MAX_BLOCK: Final = 128  # octets of a keyed hash's secret, whatever its hash (Part 1, 24.7.5.1)


def is_storage_parent(public: TPMT_PUBLIC) -> bool:
    """Tell whether an object with this area is a Storage Parent once it is loaded (Part 1, 22.1.5)."""
    return public.object_attributes & _PARENT == _PARENT and public.type != TPM_ALG_KEYEDHASH


def is_storage_key(public: TPMT_PUBLIC) -> bool:
    """Tell whether the area is that of a Storage Key with a Name, whose private part may be elsewhere."""
    return is_storage_parent(public) and public.name_alg != TPM_ALG_NULL


def protection(public: TPMT_PUBLIC) -> TPMT_SYM_DEF_OBJECT:
    """Return the symmetric algorithm with which a Storage Parent protects its children."""
    parameters = public.parameters
    if isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        return parameters.sym
    assert not isinstance(parameters, TPMS_KEYEDHASH_PARMS), "a keyed hash is no Storage Parent"
    return parameters.symmetric


def symmetric_unique(public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE) -> bytes:
    """Return the unique value of a symmetric object (Part 1, 24.5.3.2).

    It is H(seedValue || sensitive), but HMAC(seedValue, sensitive) for a parent: the TPMs there are make it
    so, and refuse to import a parent made otherwise.  `check_binding` takes both.
    """
    alg, seed, secret = public.name_alg, sensitive.seed_value, sensitive.sensitive
    if public.object_attributes & _PARENT == _PARENT:
        return hashes.hmac(alg, seed, secret)
    return hashes.digest(alg, seed, secret)


def check_auth_size(auth: bytes, public: TPMT_PUBLIC) -> None:
    """An authValue is no longer than a digest of nameAlg, else TPM_RC_SIZE (Part 1, 24.3.2)."""
    if public.name_alg != TPM_ALG_NULL and len(auth.rstrip(b"\0")) > hashes.size(public.name_alg):
        raise TpmError(TPM_RC_SIZE)


def check_request(public: TPMT_PUBLIC, parent: Object | None, given: TPMS_SENSITIVE_CREATE) -> None:
    """A command may create an object of the template, its parameter 2, with *given*, its parameter 1.

    Raises what `check_creation` and `check_auth_size` do, with the number of the parameter.
    """
    try:
        check_creation(public, parent, len(given.data))
    except TpmError as error:
        raise error.parameter(2) from None
    try:
        check_auth_size(given.user_auth, public)
    except TpmError as error:
        raise error.parameter(1) from None


def check_creation(public: TPMT_PUBLIC, parent: Object | None, data_size: int) -> None:
    """A template may be made into an object with *data_size* octets of sensitive data from the caller.

    Raises TPM_RC_ATTRIBUTES, or what `check_attributes` does (Part 2, 8.3.3, "Creation").
    """
    attributes = public.object_attributes
    origin = attributes & TPMA_OBJECT_SENSITIVEDATAORIGIN
    if not origin and not data_size:
        raise TpmError(TPM_RC_ATTRIBUTES)
    # Data for a primary whose origin is the TPM personalise its derivation (Part 1, 24.3.3).
    if origin and data_size and parent is not None:
        raise TpmError(TPM_RC_ATTRIBUTES)
    if public.type in ASYMMETRIC:
        if not origin:
            raise TpmError(TPM_RC_ATTRIBUTES)
    else:
        if public.type == TPM_ALG_KEYEDHASH and origin and not attributes & _USES:
            raise TpmError(TPM_RC_ATTRIBUTES)  # A sealed data object without data from outside.
        # A parent whose secret somebody else knows cannot promise to stay on this TPM.
        if (attributes & TPMA_OBJECT_RESTRICTED and not origin
                and attributes & (TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_FIXEDTPM)):
            raise TpmError(TPM_RC_ATTRIBUTES)
    if attributes & LIMITED:
        raise TpmError(TPM_RC_ATTRIBUTES)  # No hierarchy of this TPM is limited to a firmware or SVN.
    check_attributes(public, parent)


def check_attributes(public: TPMT_PUBLIC, parent: Object | None) -> None:
    """The attributes agree with each other and with the parent's (Part 2, 8.3.3), and the scheme with them.

    Raises TPM_RC_HASH without a nameAlg, TPM_RC_SIZE for an authPolicy of the wrong size, TPM_RC_ATTRIBUTES,
    or what `check_scheme` does.
    """
    if public.name_alg == TPM_ALG_NULL:
        raise TpmError(TPM_RC_HASH)
    if public.auth_policy and len(public.auth_policy) != hashes.size(public.name_alg):
        raise TpmError(TPM_RC_SIZE)
    attributes = public.object_attributes
    fixed_tpm = bool(attributes & TPMA_OBJECT_FIXEDTPM)
    fixed_parent = bool(attributes & TPMA_OBJECT_FIXEDPARENT)
    encrypted = bool(attributes & TPMA_OBJECT_ENCRYPTEDDUPLICATION)
    if parent is None or parent.attributes & TPMA_OBJECT_FIXEDTPM:
        wrong = fixed_parent != fixed_tpm
    else:
        wrong = fixed_tpm
    uses = attributes & _USES
    if uses in (0, _USES):
        wrong = wrong or bool(attributes & TPMA_OBJECT_RESTRICTED)
    if not uses:
        wrong = wrong or public.type != TPM_ALG_KEYEDHASH
    wrong = wrong or (fixed_tpm and encrypted)
    if parent is not None and not parent.attributes & TPMA_OBJECT_FIXEDTPM:
        wrong = wrong or encrypted != bool(parent.attributes & TPMA_OBJECT_ENCRYPTEDDUPLICATION)
    if parent is not None and parent.is_derivation_parent:
        # Without this, the same key could be derived as one that stays on its TPM and as one that does not.
        wrong = wrong or not fixed_parent or fixed_tpm != bool(parent.attributes & TPMA_OBJECT_FIXEDTPM)
    if attributes & TPMA_OBJECT_X509SIGN:
        wrong = wrong or public.type not in ASYMMETRIC or not attributes & TPMA_OBJECT_SIGN
    if wrong:
        raise TpmError(TPM_RC_ATTRIBUTES)
    check_scheme(public, parent)


def check_scheme(public: TPMT_PUBLIC, parent: Object | None) -> None:
    """The scheme and algorithms of the parameters suit the attributes (Part 3, 12.1.1; Part 2, 12.2.3).

    Raises TPM_RC_SCHEME, TPM_RC_KDF, TPM_RC_SYMMETRIC, or TPM_RC_HASH when a fixedParent storage key has
    another nameAlg than its parent.
    """
    parameters = public.parameters
    if isinstance(parameters, TPMS_KEYEDHASH_PARMS):
        _check_keyed_hash(public.object_attributes, parameters.scheme)
    elif isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        if public.object_attributes & TPMA_OBJECT_DECRYPT and parameters.sym.mode in MAC_SCHEMES:
            raise TpmError(TPM_RC_SCHEME)
    else:
        _check_asymmetric(public, parameters)
    if not is_storage_parent(public):
        return
    symmetric = protection(public)
    if symmetric.algorithm == TPM_ALG_NULL:
        raise TpmError(TPM_RC_SYMMETRIC)
    if parent is not None and public.object_attributes & TPMA_OBJECT_FIXEDPARENT:
        if public.name_alg != parent.public.name_alg:
            raise TpmError(TPM_RC_HASH)
        if parent.is_derivation_parent or symmetric != protection(parent.public):
            raise TpmError(TPM_RC_SYMMETRIC)


def _check_keyed_hash(attributes: int, scheme: TPMT_KEYEDHASH_SCHEME) -> None:
    uses = attributes & _USES
    if uses == TPMA_OBJECT_SIGN:
        wanted = TPM_ALG_HMAC
    elif uses == TPMA_OBJECT_DECRYPT:
        wanted = TPM_ALG_XOR
    else:
        wanted = TPM_ALG_NULL
    if scheme.scheme != wanted:
        raise TpmError(TPM_RC_SCHEME)
    # A Derivation Parent derives with the KDF of SP 800-108 (Part 1, 25.4).
    if (isinstance(scheme.details, TPMS_SCHEME_XOR) and attributes & TPMA_OBJECT_RESTRICTED
            and scheme.details.kdf != TPM_ALG_KDF1_SP800_108):
        raise TpmError(TPM_RC_SCHEME)


def _check_asymmetric(public: TPMT_PUBLIC, parameters: TPMS_RSA_PARMS | TPMS_ECC_PARMS) -> None:
    scheme = parameters.scheme.scheme
    attributes = public.object_attributes
    uses = attributes & _USES
    restricted = attributes & TPMA_OBJECT_RESTRICTED
    if uses == TPMA_OBJECT_SIGN:
        # Only an unrestricted key may leave the choice of the scheme to its user.
        good = scheme in _SIGNING[public.type] or (scheme == TPM_ALG_NULL and not restricted)
    elif uses == TPMA_OBJECT_DECRYPT and not restricted:
        good = scheme == TPM_ALG_NULL or scheme in _DECRYPTION[public.type]
    else:
        good = scheme == TPM_ALG_NULL
    if not good:
        raise TpmError(TPM_RC_SCHEME)
    if attributes & _PARENT != _PARENT and parameters.symmetric.algorithm != TPM_ALG_NULL:
        raise TpmError(TPM_RC_SYMMETRIC)
    # No command lets the caller of a key exchange choose a KDF, so none can be set (Part 3, 12.1.1).
    if isinstance(parameters, TPMS_ECC_PARMS) and parameters.kdf.scheme != TPM_ALG_NULL:
        raise TpmError(TPM_RC_KDF)


def check_public_key(public: TPMT_PUBLIC) -> None:
    """The unique field of a public-only object can be what the parameters say (Part 3, 12.3).

    Raises TPM_RC_KEY for a wrong size, TPM_RC_VALUE for an RSA exponent below 7, TPM_RC_ECC_POINT for a point
    that is not on the curve.
    """
    unique, parameters = public.unique, public.parameters
    if isinstance(unique, TPMS_ECC_POINT):
        from hwtpm.crypto import ecc

        assert isinstance(parameters, TPMS_ECC_PARMS)
        size = ecc.curve(parameters.curve_id).field_size
        if len(unique.x) != size or len(unique.y) != size:
            raise TpmError(TPM_RC_KEY)
        if public.name_alg != TPM_ALG_NULL and not ecc.on_curve(parameters.curve_id, unique.x, unique.y):
            raise TpmError(TPM_RC_ECC_POINT)
    elif isinstance(parameters, TPMS_RSA_PARMS):
        if len(unique) * 8 != parameters.key_bits or unique[0] < 0x80:
            raise TpmError(TPM_RC_KEY)
        if 0 < parameters.exponent < 7:
            raise TpmError(TPM_RC_VALUE)
    elif len(unique) != (hashes.size(public.name_alg) if public.name_alg != TPM_ALG_NULL else 0):
        raise TpmError(TPM_RC_KEY)


def check_cipher_key(cipher: TPMT_SYM_DEF_OBJECT, key: bytes) -> None:
    """The key is one of the cipher: TPM_RC_KEY_SIZE for its size, TPM_RC_KEY for a weak key of TDES."""
    if len(key) * 8 != cipher.key_bits:
        raise TpmError(TPM_RC_KEY_SIZE)
    if cipher.algorithm == TPM_ALG_TDES and not is_tdes_key(key):
        raise TpmError(TPM_RC_KEY)


def check_sensitive(public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE) -> None:
    """The sensitive area has the type and sizes that the public area asks for (Part 3, 12.2).

    Raises TPM_RC_TYPE, TPM_RC_SIZE for the authValue or a parent's seedValue, TPM_RC_KEY for a weak key
    of TDES, TPM_RC_KEY_SIZE for the rest.
    """
    if public.type != sensitive.sensitive_type:
        raise TpmError(TPM_RC_TYPE)
    digest = hashes.size(public.name_alg) if public.name_alg != TPM_ALG_NULL else 0
    if digest and len(sensitive.auth_value) > digest:
        raise TpmError(TPM_RC_SIZE)
    secret = sensitive.sensitive
    parameters = public.parameters
    if isinstance(parameters, TPMS_RSA_PARMS):
        if len(secret) * 16 != parameters.key_bits or secret[0] < 0x80:
            raise TpmError(TPM_RC_KEY_SIZE)
    elif isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        check_cipher_key(parameters.sym, secret)
    elif isinstance(parameters, TPMS_KEYEDHASH_PARMS) and len(secret) > max_keyed_hash(parameters):
        raise TpmError(TPM_RC_KEY_SIZE)
    if digest and public.type not in ASYMMETRIC and len(sensitive.seed_value) != digest:
        raise TpmError(TPM_RC_KEY_SIZE)
    # Half a digest is enough for the HMAC and the cipher that it keys (Part 1, 24.7.4).
    if (digest and public.object_attributes & _PARENT == _PARENT
            and not digest // 2 <= len(sensitive.seed_value) <= digest):
        raise TpmError(TPM_RC_SIZE)


def max_keyed_hash(parameters: TPMS_KEYEDHASH_PARMS) -> int:
    """Return how many octets the secret of a keyed hash object may have (Part 1, 24.7.5.1)."""
    details = parameters.scheme.details
    return _MAX_BLOCK if details is None else min(hashes.block_size(details.hash_alg), _MAX_BLOCK)


def check_binding(found: Object) -> None:
    """The public area is that of the sensitive area (Part 3, 12.2): TPM_RC_BINDING.

    Without a nameAlg only an RSA key is checked, whose private part is of no use without the public one.
    TPM_RC_KEY_SIZE for an ECC scalar out of range.
    """
    public, sensitive, unique = found.public, found.sensitive, found.public.unique
    assert sensitive is not None
    if isinstance(unique, TPMS_ECC_POINT):
        from hwtpm.crypto.ecc import EccPrivate

        try:
            key = found.key
        except TpmError:
            raise TpmError(TPM_RC_KEY_SIZE) from None
        if public.name_alg != TPM_ALG_NULL:
            assert isinstance(key, EccPrivate)
            x, y = key.public
            # The coordinates may come with more or fewer leading zeros.
            if x.lstrip(b"\0") != unique.x.lstrip(b"\0") or y.lstrip(b"\0") != unique.y.lstrip(b"\0"):
                raise TpmError(TPM_RC_BINDING)
    elif public.type == TPM_ALG_RSA:
        found.key  # noqa: B018 - making the key is the check
    elif public.name_alg == TPM_ALG_NULL:
        return
    else:
        plain = hashes.digest(public.name_alg, sensitive.seed_value, sensitive.sensitive)
        if not (hmac.compare_digest(unique, symmetric_unique(public, sensitive))
                or hmac.compare_digest(unique, plain)):
            raise TpmError(TPM_RC_BINDING)

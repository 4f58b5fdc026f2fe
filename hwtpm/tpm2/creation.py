"""Making objects: their secrets, their creation data and the ticket for it (Part 1, 24).

The secrets of an ordinary object come from the TPM's generator, those of a primary from a generator that its
seed and template start (Part 1, 24.6), those of a derived object from the KDF of its parent (Part 1, 25.4).
All three are a `Source`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from hwtpm.crypto import hashes, symmetric
from hwtpm.crypto.errors import Cancelled
from hwtpm.crypto.kdf import kdfa
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import Tpm
from hwtpm.tpm2.profile import CONTEXT_INTEGRITY_HASH_ALG, RSA_DEFAULT_PUBLIC_EXPONENT
from hwtpm.tpm2.state.objects import Object, public_name, qualified_name
from hwtpm.tpm2.templates import (
    ASYMMETRIC,
    check_cipher_key,
    is_storage_parent,
    max_keyed_hash,
    symmetric_unique,
)
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMS_SENSITIVE_CREATE, TPMS_SYMCIPHER_PARMS
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_SIGN,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_TDES,
    TPM_RC_CANCELED,
    TPM_RC_NO_RESULT,
    TPM_RC_RANGE,
    TPM_RC_SIZE,
    TPM_ST_CREATION,
)
from hwtpm.tpm2.types.creation import TPMS_CREATION_DATA
from hwtpm.tpm2.types.handles import TPM_RH_ENDORSEMENT, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import (
    TPMS_ECC_PARMS,
    TPMS_KEYEDHASH_PARMS,
    TPMS_RSA_PARMS,
    TPMT_PUBLIC,
    TPMT_SENSITIVE,
)
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION, TPMT_TK_CREATION
from hwtpm.wire import encode

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate
    from hwtpm.crypto.rsa import RsaPrivate

_PRIMARY_USE: Final = b"Primary Object Creation"
_DERIVED_BITS: Final = 8192


class Source:
    """Where the secrets of a new object come from; *cancelled* ends a search for primes.

    *ahead* gives primes that were found before, or None.
    """

    def __init__(self, random: Callable[[int], bytes], cancelled: Callable[[], bool],
                 ahead: Callable[[int, int], tuple[int, int] | None] | None = None) -> None:
        self.random = random
        self._cancelled = cancelled
        self._ahead = ahead

    def rsa_primes(self, bits: int, exponent: int) -> tuple[int, int]:
        """Return the primes of a new RSA key of *bits* bits; raises TPM_RC_CANCELED."""
        if self._ahead is not None and (found := self._ahead(bits, exponent)) is not None:
            return found
        from hwtpm.crypto.primes import generate_rsa

        try:
            return generate_rsa(bits, exponent, self.random, self._cancelled)
        except Cancelled:
            raise TpmError(TPM_RC_CANCELED) from None


def ordinary(tpm: Tpm) -> Source:
    """Return the source for an object that no seed determines: the TPM's generator."""
    return Source(tpm.random, tpm.cancelled, tpm.primes)


class _Secret(NamedTuple):
    """The sensitive value of a new object; *unique* and *key* for an asymmetric one."""

    sensitive: bytes
    unique: bytes | TPMS_ECC_POINT = b""
    key: RsaPrivate | EccPrivate | None = None


def create(public: TPMT_PUBLIC, given: TPMS_SENSITIVE_CREATE,
           source: Source) -> tuple[TPMT_PUBLIC, TPMT_SENSITIVE]:
    """Return both areas of a new ordinary object made of a template that `check_creation` has passed.

    Raises TPM_RC_CANCELED, TPM_RC_RANGE for an unsupported RSA exponent, TPM_RC_SIZE or TPM_RC_KEY_SIZE for a
    secret of the wrong size.
    """
    secret = _secret(public, _provided(public, given.data), source)
    made, seed_value = _finish(public, secret, source.random(hashes.size(public.name_alg)))
    auth = given.user_auth.rstrip(b"\0")
    return made, TPMT_SENSITIVE(public.type, auth, seed_value, secret.sensitive)


def create_primary(tpm: Tpm, hierarchy: int, public: TPMT_PUBLIC, data: bytes) -> Object:
    """Return the primary that the seed of *hierarchy*, a template and the caller's data give; no authValue.

    It is always the same.  The template counts with all of its octets, unique included, and so do the data.
    Raises as `create` does.
    """
    seed = tpm.hierarchies.seed(hierarchy)
    octets = encode(public)
    proofs = b""
    if hierarchy == TPM_RH_ENDORSEMENT:
        # After a change of the storage seed the key is the same, and children of the old one do not load
        # (Part 1, 24.7.4).
        proofs = tpm.hierarchies.proof(TPM_RH_OWNER) + tpm.hierarchies.proof(TPM_RH_ENDORSEMENT)

    def derive() -> Object:
        from hwtpm.crypto.derivation import Derivation

        # A digest of our own choice: nameAlg may be one for which two templates of one name can be made.
        template = hashlib.sha512(len(octets).to_bytes(2, "big") + octets + data).digest()
        derivation = Derivation(seed, _PRIMARY_USE, template)
        secret = _secret(public, _provided(public, data), Source(derivation.random, tpm.cancelled))
        if proofs:
            derivation.mix(proofs)
        made, seed_value = _finish(public, secret, derivation.random(hashes.size(public.name_alg)))
        sensitive = TPMT_SENSITIVE(made.type, b"", seed_value, secret.sensitive)
        name = public_name(made)
        found = Object(made, sensitive, hierarchy, name=name,
                       qualified_name=qualified_name(hierarchy.to_bytes(4, "big"), made.name_alg, name))
        if secret.key is not None:
            found.key = secret.key
        return found

    # A caller's secret stays here no longer than the object that it is for.
    if _provided(public, data) is not None:
        return derive()
    personal = hashlib.sha512(data).digest() if data else b""
    return tpm.objects.primary((hierarchy, seed, proofs, octets, personal), derive)


class DerivedBits:
    """The octets that a Derivation Parent gives for a label and a context (Part 1, 25.4.1).

    Each is used once, in order.  The hash is that of the parent's scheme (Part 1, Table 37), as all TPMs
    have to derive the same object and the others do so; equation 49 names the parent's nameAlg.
    """

    def __init__(self, parent: Object, label: bytes, context: bytes) -> None:
        parameters = parent.public.parameters
        assert isinstance(parameters, TPMS_KEYEDHASH_PARMS)
        details = parameters.scheme.details
        assert parent.sensitive is not None
        assert details is not None, "a Derivation Parent has a scheme"
        self._octets = kdfa(details.hash_alg, parent.sensitive.sensitive, label, context, b"", _DERIVED_BITS)

    def random(self, size: int) -> bytes:
        """Return the next *size* octets; raises TPM_RC_NO_RESULT when too few are left."""
        taken, self._octets = self._octets[:size], self._octets[size:]
        if len(taken) < size:
            raise TpmError(TPM_RC_NO_RESULT)
        return taken


def derive(public: TPMT_PUBLIC, auth: bytes, bits: DerivedBits) -> tuple[TPMT_PUBLIC, TPMT_SENSITIVE]:
    """Return both areas of a derived object; *public* has no RSA key and no unique value yet."""
    secret = _secret(public, None, Source(bits.random, lambda: False))
    made, seed_value = _finish(public, secret, bits.random(hashes.size(public.name_alg)))
    return made, TPMT_SENSITIVE(public.type, auth.rstrip(b"\0"), seed_value, secret.sensitive)


def _provided(public: TPMT_PUBLIC, data: bytes) -> bytes | None:
    """Return the caller's *data* where they are the sensitive value, None where the TPM is to make it."""
    return None if public.object_attributes & TPMA_OBJECT_SENSITIVEDATAORIGIN else data


def _secret(public: TPMT_PUBLIC, data: bytes | None, source: Source) -> _Secret:
    """Make the sensitive value (Part 1, 24.7.5), and of an asymmetric key the public part as well.

    The value of a symmetric object is *data*, if they are given.
    """
    parameters = public.parameters
    if isinstance(parameters, TPMS_RSA_PARMS):
        return _rsa(parameters, source)
    if isinstance(parameters, TPMS_ECC_PARMS):
        return _ecc(parameters.curve_id, source)
    if isinstance(parameters, TPMS_SYMCIPHER_PARMS):
        assert parameters.sym.key_bits is not None
        size = parameters.sym.key_bits // 8
        if data is None:
            return _Secret(_cipher_key(parameters.sym.algorithm, size, source))
        check_cipher_key(parameters.sym, data)
        return _Secret(data)
    if data is None:
        # The scheme's hash, for the sake of derived objects, which are the same on all TPMs.
        details = parameters.scheme.details
        return _Secret(source.random(hashes.size(public.name_alg if details is None else details.hash_alg)))
    uses = public.object_attributes & (TPMA_OBJECT_SIGN | TPMA_OBJECT_DECRYPT)
    if uses and len(data) > max_keyed_hash(parameters):
        raise TpmError(TPM_RC_SIZE)
    return _Secret(data)


def _cipher_key(alg: int, size: int, source: Source) -> bytes:
    key = source.random(size)
    if alg == TPM_ALG_TDES:
        while not symmetric.is_tdes_key(key):
            key = source.random(size)
        key = symmetric.with_parity(key)
    return key


def _rsa(parameters: TPMS_RSA_PARMS, source: Source) -> _Secret:
    from hwtpm.crypto.rsa import RsaPrivate

    exponent = parameters.exponent or RSA_DEFAULT_PUBLIC_EXPONENT
    if exponent < RSA_DEFAULT_PUBLIC_EXPONENT or not _is_prime(exponent):
        raise TpmError(TPM_RC_RANGE)
    p, q = source.rsa_primes(parameters.key_bits, exponent)
    key = RsaPrivate(p * q, p, exponent)
    return _Secret(p.to_bytes(key.size // 2, "big"), key.modulus, key)


def _is_prime(number: int) -> bool:
    """Tell whether a *number* above 11 of at most 32 bits is prime; these witnesses decide them all."""
    if not number & 1:
        return False
    shift = ((number - 1) & (1 - number)).bit_length() - 1
    for witness in (2, 3, 5, 7, 11):
        z = pow(witness, (number - 1) >> shift, number)
        if z not in (1, number - 1) and all((z := z * z % number) != number - 1 for _ in range(shift - 1)):
            return False
    return True


def _ecc(curve: int, source: Source) -> _Secret:
    from hwtpm.crypto import ecc

    key = ecc.EccPrivate(curve, ecc.scalar_from(curve, source.random(ecc.curve(curve).scalar_seed_size)))
    return _Secret(key.d, TPMS_ECC_POINT(*key.public), key)


def _finish(template: TPMT_PUBLIC, secret: _Secret, seed_value: bytes) -> tuple[TPMT_PUBLIC, bytes]:
    """Return the public area with its unique value, and the seedValue that stays (Part 1, 24.7.4)."""
    public = TPMT_PUBLIC(template.type, template.name_alg, template.object_attributes, template.auth_policy,
                         template.parameters, secret.unique)
    if public.type in ASYMMETRIC:
        return public, seed_value if is_storage_parent(public) else b""
    public.unique = symmetric_unique(public, TPMT_SENSITIVE(public.type, b"", seed_value, secret.sensitive))
    return public, seed_value


def creation_data(tpm: Tpm, parent: Object | int, name_alg: int, selection: list[TPMS_PCR_SELECTION],
                  outside_info: bytes) -> tuple[TPMS_CREATION_DATA, bytes]:
    """Return the circumstances of a creation and their digest under *name_alg* (Part 1, 24.8; Part 2, 15.1).

    *parent* is the parent object, or the hierarchy handle of a primary.  Without a selection of PCRs their
    digest is the Empty Buffer.
    """
    selected, digest = tpm.pcrs.composite(selection, name_alg) if selection else (selection, b"")
    if isinstance(parent, int):
        handle = parent.to_bytes(4, "big")
        above = TPM_ALG_NULL, handle, handle
    else:
        above = parent.public.name_alg, parent.name, parent.qualified_name
    data = TPMS_CREATION_DATA(selected, digest, 1 << tpm.locality, *above, outside_info)
    return data, hashes.digest(name_alg, encode(data))


def creation_ticket(tpm: Tpm, hierarchy: int, name: bytes, creation_hash: bytes) -> TPMT_TK_CREATION:
    """Return the proof that this TPM made the object *name* under that creation data (Part 2, 10.6.3)."""
    digest = hashes.hmac(CONTEXT_INTEGRITY_HASH_ALG, tpm.hierarchies.proof(hierarchy),
                         TPM_ST_CREATION.to_bytes(2, "big"), name, creation_hash)
    return TPMT_TK_CREATION(TPM_ST_CREATION, hierarchy, digest)

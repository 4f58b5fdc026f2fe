"""Duplication commands (Part 3, 13; Part 1, 20.3)."""

from __future__ import annotations

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import templates, wrapping
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.requests.duplication import (
    Duplicate,
    DuplicateResponse,
    Import,
    ImportResponse,
    Rewrap,
    RewrapResponse,
)
from hwtpm.tpm2.state.objects import Object, public_name
from hwtpm.tpm2.templates import ASYMMETRIC, LIMITED, is_storage_key, protection
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF_OBJECT
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_ENCRYPTEDDUPLICATION,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_RSA,
    TPM_RC_ATTRIBUTES,
    TPM_RC_HANDLE,
    TPM_RC_HASH,
    TPM_RC_HIERARCHY,
    TPM_RC_INSUFFICIENT,
    TPM_RC_KEY_SIZE,
    TPM_RC_SIZE,
    TPM_RC_SYMMETRIC,
    TPM_RC_TYPE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.tpm2.types.objects import MAX_PRIVATE, TPMT_PUBLIC, TPMT_SENSITIVE
from hwtpm.wire import decode

_LABEL = b"DUPLICATE"
_NOT_IMPORTED = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | LIMITED  # Part 2, 8.3.3, "Import".


def _wrapper(tpm: Tpm, handle: int, number: int) -> Object | None:
    """Return the asymmetric Storage Key that makes an outer wrapper, None for TPM_RH_NULL.

    Only its public area need be loaded.  A symmetric Storage Key conveys no secret (Part 1, 20.2).
    """
    if handle == TPM_RH_NULL:
        return None
    key = tpm.objects.loaded(handle)
    if key is None or not is_storage_key(key.public) or key.public.type not in ASYMMETRIC:
        raise TpmError(TPM_RC_TYPE).handle(number)
    return key


def _wrap_outer(tpm: Tpm, parent: Object, name: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return *data* in an outer wrapper for *parent*, and its encrypted seed."""
    from hwtpm.tpm2.secret import encrypt_secret

    seed, secret = encrypt_secret(parent, _LABEL, tpm.random)
    return wrapping.outer_wrap(parent.public.name_alg, seed, protection(parent.public), name, data), secret


def _unwrap_outer(parent: Object, name: bytes, seed: bytes, blob: bytes) -> bytes:
    return wrapping.outer_unwrap(parent.public.name_alg, seed, protection(parent.public), name, blob,
                                 with_iv=False)


def _check_inner_key(cipher: TPMT_SYM_DEF_OBJECT, key: bytes) -> None:
    """The key of an inner wrapper has the size that *cipher* asks for: TPM_RC_SIZE."""
    if len(key) * 8 != (cipher.key_bits or 0):
        raise TpmError(TPM_RC_SIZE).parameter(1)


@handles
def duplicate(tpm: Tpm, cmd: Duplicate) -> DuplicateResponse:
    """The object is returned in a form that the new parent can import.  Part 3, 13.1.

    TPM_RC_ATTRIBUTES (handle 1): fixedParent is SET.  TPM_RC_TYPE (handle 1): the object has no nameAlg;
    (handle 2): not an asymmetric Storage Key.  TPM_RC_SYMMETRIC (parameter 2), TPM_RC_HIERARCHY (handle 2):
    encryptedDuplication asks for both wrappers.  TPM_RC_SIZE (parameter 1): the key of the inner wrapper does
    not suit its algorithm.  TPM_RC_VALUE: the RSA key of the new parent is too short for its nameAlg.
    """
    # Input Validation
    found = tpm.objects.loaded(cmd.object_handle)
    if found is None:
        raise TpmError(TPM_RC_TYPE).handle(1)
    if found.attributes & TPMA_OBJECT_FIXEDPARENT:
        raise TpmError(TPM_RC_ATTRIBUTES).handle(1)
    alg = found.public.name_alg
    if alg == TPM_ALG_NULL:
        raise TpmError(TPM_RC_TYPE).handle(1)
    parent = _wrapper(tpm, cmd.new_parent_handle, 2)
    cipher, given = cmd.symmetric_alg, cmd.encryption_key_in
    inner = cipher.algorithm != TPM_ALG_NULL
    if found.attributes & TPMA_OBJECT_ENCRYPTEDDUPLICATION:
        if not inner:
            raise TpmError(TPM_RC_SYMMETRIC).parameter(2)
        if parent is None:
            raise TpmError(TPM_RC_HIERARCHY).handle(2)
    if given or not inner:
        _check_inner_key(cipher, given)

    # Command Output
    assert found.sensitive is not None, "a public-only object has no authorization"
    blob, made, secret = wrapping.sensitive_area(alg, found.sensitive), b"", b""
    if inner:
        assert cipher.key_bits is not None
        made = b"" if given else tpm.random(cipher.key_bits // 8)
        blob = wrapping.inner_wrap(alg, cipher, given or made, found.name, blob)
    if parent is not None:
        blob, secret = _wrap_outer(tpm, parent, found.name, blob)
    return DuplicateResponse(made, blob, secret)


@handles
def rewrap(tpm: Tpm, cmd: Rewrap) -> RewrapResponse:
    """The duplicate is returned with the outer wrapper of another parent.  Part 3, 13.2.

    TPM_RC_HANDLE (handle 1): there is a seed without an old parent, or the reverse.  TPM_RC_TYPE (handle 1
    or 2): not an asymmetric Storage Key.  TPM_RC_VALUE (parameter 3): the seed was not encrypted for the old
    parent.  TPM_RC_INTEGRITY, TPM_RC_SIZE, TPM_RC_INSUFFICIENT (parameter 1): not a duplicate of that name
    under that seed.  TPM_RC_VALUE (parameter 1): too long with an outer wrapper.
    """
    # Input Validation
    blob = cmd.in_duplicate
    if bool(cmd.in_sym_seed) != (cmd.old_parent != TPM_RH_NULL):
        raise TpmError(TPM_RC_HANDLE).handle(1)
    old = _wrapper(tpm, cmd.old_parent, 1)
    if old is not None:
        from hwtpm.tpm2.secret import decrypt_secret

        try:
            seed = decrypt_secret(old, cmd.in_sym_seed, _LABEL)
        except TpmError:
            raise TpmError(TPM_RC_VALUE).parameter(3) from None
        try:
            blob = _unwrap_outer(old, cmd.name, seed, blob)
        except TpmError as error:
            raise error.parameter(1) from None
    new = _wrapper(tpm, cmd.new_parent, 2)
    if new is None:
        return RewrapResponse(blob, b"")
    if len(blob) + 2 + hashes.size(new.public.name_alg) > MAX_PRIVATE:
        raise TpmError(TPM_RC_VALUE).parameter(1)

    # Command Output
    return RewrapResponse(*_wrap_outer(tpm, new, cmd.name, blob))


@handles
def import_(tpm: Tpm, cmd: Import) -> ImportResponse:
    """The duplicate is returned wrapped by its new parent, ready for TPM2_Load.  Part 3, 13.3.

    TPM_RC_TYPE (handle 1): not a Storage Parent, or a symmetric one although there is a seed.
    TPM_RC_ATTRIBUTES (parameter 2): fixedTPM, fixedParent, firmwareLimited or svnLimited is SET; (parameter 1
    or 4): the inner or outer wrapper that encryptedDuplication asks for is missing.  TPM_RC_SIZE (parameter
    1): the key of the inner wrapper does not suit its algorithm.  TPM_RC_VALUE, TPM_RC_SIZE,
    TPM_RC_INSUFFICIENT, TPM_RC_ECC_POINT (parameter 4): the seed was not encrypted for the parent.
    TPM_RC_INTEGRITY (parameter 3): not the duplicate of this public area, seed and key; TPM_RC_SIZE,
    TPM_RC_INSUFFICIENT and what the decoding of a sensitive area raises (parameter 3).  Below a parent with
    fixedTPM, also what `_check_areas` raises.
    """
    # Input Validation
    public, cipher = cmd.object_public, cmd.symmetric_alg
    if public.object_attributes & _NOT_IMPORTED:
        raise TpmError(TPM_RC_ATTRIBUTES).parameter(2)
    parent = tpm.objects.loaded(cmd.parent_handle)
    if parent is None or not parent.is_parent:
        raise TpmError(TPM_RC_TYPE).handle(1)
    encrypted = public.object_attributes & TPMA_OBJECT_ENCRYPTEDDUPLICATION
    _check_inner_key(cipher, cmd.encryption_key)
    inner = cipher.algorithm != TPM_ALG_NULL
    if encrypted and not inner:
        raise TpmError(TPM_RC_ATTRIBUTES).parameter(1)
    seed = _import_seed(parent, cmd.in_sym_seed)
    if encrypted and seed is None:
        raise TpmError(TPM_RC_ATTRIBUTES).parameter(4)
    name = public_name(public)
    if not name:
        raise TpmError(TPM_RC_HASH).parameter(2)
    try:
        blob = cmd.duplicate
        if seed is not None:
            blob = _unwrap_outer(parent, name, seed, blob)
        if inner:
            blob = wrapping.inner_unwrap(public.name_alg, cipher, cmd.encryption_key, name, blob)
        if len(blob) < 2:
            raise TpmError(TPM_RC_INSUFFICIENT)
        if int.from_bytes(blob[:2], "big") != len(blob) - 2:
            raise TpmError(TPM_RC_SIZE)
        sensitive = decode(TPMT_SENSITIVE, blob[2:])
    except TpmError as error:
        raise error.parameter(3) from None
    if parent.attributes & TPMA_OBJECT_FIXEDTPM:
        _check_areas(public, sensitive, name)

    # Command Output
    return ImportResponse(wrapping.protect(parent, name, public.name_alg, sensitive, tpm.random))


def _import_seed(parent: Object, secret: bytes) -> bytes | None:
    """Return the seed of the outer wrapper; None without one."""
    if not secret:
        return None
    if parent.public.type not in ASYMMETRIC:
        raise TpmError(TPM_RC_TYPE).handle(1)
    from hwtpm.tpm2.secret import decrypt_secret

    try:
        return decrypt_secret(parent, secret, _LABEL)
    except TpmError as error:
        raise error.parameter(4) from None


def _check_areas(public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE, name: bytes) -> None:
    """Both areas are good and belong together: below this parent, TPM2_Load will not look again.

    Raises TPM_RC_KEY_SIZE and what `templates.check_sensitive` does (parameter 3), what
    `templates.check_attributes` and for RSA `templates.check_public_key` do (parameter 2), TPM_RC_BINDING.
    """
    if len(sensitive.seed_value) > hashes.size(public.name_alg):
        raise TpmError(TPM_RC_KEY_SIZE).parameter(3)
    try:
        templates.check_attributes(public, None)
        if public.type == TPM_ALG_RSA:
            templates.check_public_key(public)
    except TpmError as error:
        raise error.parameter(2) from None
    try:
        templates.check_sensitive(public, sensitive)
    except TpmError as error:
        raise error.parameter(3) from None
    templates.check_binding(Object(public, sensitive, TPM_RH_NULL, name=name, qualified_name=name))

"""Keys that vouch for other keys (Part 3, 13.8 and 13.9)."""

from __future__ import annotations

from hashlib import sha1
from hmac import compare_digest
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, parent_pcr_status, require_usage, use_key
from hwtpm.tpm12.cmk import CMK_PAYLOADS, migration_proof, pubkey_digest
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.signing import CertifyKey, CertifyKey2, CertifyKeyResponse
from hwtpm.tpm12.signing import require_signing, sign, signs_digests
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.base import ZERO_DIGEST
from hwtpm.tpm12.types.codes import (
    TPM_BAD_KEY_PROPERTY,
    TPM_INVALID_KEYUSAGE,
    TPM_MA_SOURCE,
    TPM_MIGRATEFAIL,
)
from hwtpm.tpm12.types.constants import (
    TPM_KEY_BIND,
    TPM_KEY_IDENTITY,
    TPM_KEY_LEGACY,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_MIGRATABLE,
    TPM_MIGRATEAUTHORITY,
    TPM_PT_ASYM,
    TPM_TAG_CERTIFY_INFO2,
)
from hwtpm.tpm12.types.key import STRUCT_VER_1_1
from hwtpm.tpm12.types.pcr import TPM_LOC_ALL, TPM_PCR_INFO
from hwtpm.tpm12.types.signed import TPM_CERTIFY_INFO
from hwtpm.wire import encode

_STATIC_PCRS: Final = 2  # octets of a selection without PCR 16 and above


@handles
def certify_key(tpm: Tpm, call: Call, cmd: CertifyKey) -> CertifyKeyResponse:
    """A description of the key is returned, signed by the certifying key.  Part 3, 13.8."""
    # Input Validation
    certifier = use_key(tpm, cmd.cert_handle)
    key = use_key(tpm, cmd.key_handle, read_only=True)
    _require_scheme(certifier)
    both = len(call.authorizations) == 2
    authorize_key(tpm, call, 0 if both else None, certifier)
    authorize_key(tpm, call, 1 if both else 0, key, public=True)
    if key.payload != TPM_PT_ASYM:
        raise TpmError(TPM_INVALID_KEYUSAGE)
    if certifier.public.key_usage == TPM_KEY_IDENTITY and key.public.key_flags & TPM_MIGRATABLE:
        raise TpmError(TPM_MIGRATEFAIL)
    _require_usages(certifier, key)
    # Command Output
    status, release = parent_pcr_status(tpm, cmd.key_handle), key.release
    if release is None:
        info = certify_info(key, cmd.anti_replay, status)
    elif any(release.pcr_selection.pcr_select[_STATIC_PCRS:]) or release.locality_at_release != TPM_LOC_ALL:
        info = _certify_info2(key, cmd.anti_replay, status)
    else:
        info = certify_info(key, cmd.anti_replay, status)
        # The digest at release is over a selection of this size, so that it has to stay as it is.
        info.pcr_info = encode(TPM_PCR_INFO(release.pcr_selection, release.digest_at_release, ZERO_DIGEST))
    return _signed(certifier, info)


@handles
def certify_key2(tpm: Tpm, call: Call, cmd: CertifyKey2) -> CertifyKeyResponse:
    """A description of the key is returned, with who can migrate it, signed.  Part 3, 13.9."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle, read_only=True)
    certifier = use_key(tpm, cmd.cert_handle)
    _require_scheme(certifier)
    both = len(call.authorizations) == 2
    authorize_key(tpm, call, 0 if both else None, key, public=True)
    authorize_key(tpm, call, 1 if both else 0, certifier)
    flags = key.public.key_flags
    certified = flags & TPM_MIGRATEAUTHORITY and key.payload in CMK_PAYLOADS
    if certifier.public.key_usage == TPM_KEY_IDENTITY and flags & TPM_MIGRATABLE and not certified:
        raise TpmError(TPM_MIGRATEFAIL)
    _require_usages(certifier, key)
    info = _certify_info2(key, cmd.anti_replay, parent_pcr_status(tpm, cmd.key_handle))
    if key.payload in CMK_PAYLOADS:
        expected = migration_proof(tpm, cmd.migration_pub_digest, pubkey_digest(key.pubkey))
        if not compare_digest(expected, key.migration_auth):
            raise TpmError(TPM_MA_SOURCE)
        info.payload_type = key.payload
        info.migration_authority = sha1(cmd.migration_pub_digest + bytes([key.payload])).digest()
    # Command Output
    return _signed(certifier, info)


def _require_scheme(certifier: Key) -> None:
    if not signs_digests(certifier):
        raise TpmError(TPM_BAD_KEY_PROPERTY)


def _require_usages(certifier: Key, key: Key) -> None:
    """The certifying key may sign that, and the other is one to be certified; else TPM_INVALID_KEYUSAGE."""
    require_signing(certifier)
    require_usage(key, TPM_KEY_SIGNING, TPM_KEY_STORAGE, TPM_KEY_IDENTITY, TPM_KEY_BIND, TPM_KEY_LEGACY)


def certify_info(key: Key, nonce: bytes, parent_pcr_status: bool) -> TPM_CERTIFY_INFO:
    """Return the TPM_CERTIFY_INFO of *key*, without PCR information (Part 2, 11.1)."""
    public = key.public
    return TPM_CERTIFY_INFO(STRUCT_VER_1_1, 0, 0, public.key_usage, public.key_flags, public.auth_data_usage,
                            public.algorithm_parms, sha1(public.pub_key).digest(), nonce, parent_pcr_status,
                            b"")


def _certify_info2(key: Key, nonce: bytes, parent_pcr_status: bool) -> TPM_CERTIFY_INFO:
    """Return the TPM_CERTIFY_INFO2 of *key*, without a migration authority (Part 2, 11.2)."""
    info = certify_info(key, nonce, parent_pcr_status)
    info.tag, info.payload_type, info.migration_authority = TPM_TAG_CERTIFY_INFO2, TPM_PT_ASYM, b""
    info.pcr_info = encode(key.release) if key.release is not None else b""
    return info


def _signed(certifier: Key, info: TPM_CERTIFY_INFO) -> CertifyKeyResponse:
    return CertifyKeyResponse(info, sign(certifier, sha1(encode(info)).digest()))

"""Signing, and quotes of PCRs (Part 3, 13.5, 16.3 and 16.5)."""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.auth import authorize_key, require_usage, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.requests.integrity import Quote, Quote2, Quote2Response, QuoteResponse
from hwtpm.tpm12.requests.signing import Sign, SignResponse
from hwtpm.tpm12.signing import require_signing, sign, sign_block, signs_digests
from hwtpm.tpm12.state.keys import Key
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE
from hwtpm.tpm12.types.capability import VERSION_INFO
from hwtpm.tpm12.types.codes import TPM_BAD_PARAMETER, TPM_INAPPROPRIATE_SIG
from hwtpm.tpm12.types.constants import (
    TPM_KEY_LEGACY,
    TPM_KEY_SIGNING,
    TPM_SS_RSASSAPKCS1v15_DER,
    TPM_SS_RSASSAPKCS1v15_SHA1,
)
from hwtpm.tpm12.types.pcr import TPM_PCR_COMPOSITE, TPM_PCR_INFO_SHORT
from hwtpm.tpm12.types.signed import TPM_QUOTE_INFO, TPM_QUOTE_INFO2, TPM_SIGN_INFO
from hwtpm.wire import decode, encode

_VERSION_1_1: Final = b"\1\1\0\0"
_PADDING: Final = 11  # octets of PKCS #1 around a block, at least


@handles
def sign_area(tpm: Tpm, call: Call, cmd: Sign) -> SignResponse:
    """The key's signature over a digest, a DigestInfo or a TPM_SIGN_INFO is returned.  Part 3, 13.5."""
    # Input Validation
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    area, scheme = cmd.area_to_sign, key.public.algorithm_parms.sig_scheme
    if not area:
        raise TpmError(TPM_BAD_PARAMETER)
    require_usage(key, TPM_KEY_SIGNING, TPM_KEY_LEGACY)
    if scheme == TPM_SS_RSASSAPKCS1v15_SHA1:
        if len(area) != TPM_DIGEST_SIZE:
            raise TpmError(TPM_BAD_PARAMETER)
        # Command Output
        return SignResponse(sign(key, area))
    if scheme == TPM_SS_RSASSAPKCS1v15_DER:
        if len(area) > key.rsa.size - _PADDING:
            raise TpmError(TPM_BAD_PARAMETER)
        return SignResponse(sign_block(key, area))
    # What is left of the schemes of such keys is TPM_SS_RSASSAPKCS1v15_INFO, which needs a nonce.
    if not call.authorizations:
        raise TpmError(TPM_BAD_PARAMETER)
    info = TPM_SIGN_INFO(b"SIGN", call.authorizations[0].nonce_odd, area)
    return SignResponse(sign(key, sha1(encode(info)).digest()))


def _quoting_key(tpm: Tpm, call: Call, cmd: Quote | Quote2) -> Key:
    """Return the key to quote with, once its use is authorized."""
    key = use_key(tpm, cmd.key_handle)
    authorize_key(tpm, call, 0, key)
    if not signs_digests(key):
        raise TpmError(TPM_INAPPROPRIATE_SIG)
    require_signing(key)
    return key


@handles
def quote(tpm: Tpm, call: Call, cmd: Quote) -> QuoteResponse:
    """The values of the PCRs are returned, and a signature over them and the caller's data.  Part 3, 16.3."""
    # Input Validation
    key = _quoting_key(tpm, call, cmd)
    # Command Output
    chosen = cmd.target_pcr.pcr_select
    info = TPM_QUOTE_INFO(_VERSION_1_1, b"QUOT", tpm.pcrs.digest(chosen), cmd.external_data)
    composite = decode(TPM_PCR_COMPOSITE, tpm.pcrs.composite(chosen))
    return QuoteResponse(composite, sign(key, sha1(encode(info)).digest()))


@handles
def quote2(tpm: Tpm, call: Call, cmd: Quote2) -> Quote2Response:
    """The digest of the PCRs and the locality are returned, and a signature over them.  Part 3, 16.5."""
    # Input Validation
    key = _quoting_key(tpm, call, cmd)
    # Command Output
    short = TPM_PCR_INFO_SHORT(cmd.target_pcr, 1 << tpm.locality, tpm.pcrs.digest(cmd.target_pcr.pcr_select))
    version = encode(VERSION_INFO) if cmd.add_version else b""
    signed = encode(TPM_QUOTE_INFO2(b"QUT2", cmd.external_data, short)) + version
    return Quote2Response(short, version, sign(key, sha1(signed).digest()))

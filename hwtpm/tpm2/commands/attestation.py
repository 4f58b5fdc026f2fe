"""Attestation commands (Part 3, 18 and 31.16).

All of them take a signing key or TPM_RH_NULL, for which the structure is returned with a null signature.
"""

from __future__ import annotations

from hmac import compare_digest

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2 import schemes
from hwtpm.tpm2.attest import FIRMWARE_VERSION, attest
from hwtpm.tpm2.commands.nv import check_range, check_read
from hwtpm.tpm2.context import Tpm, handles
from hwtpm.tpm2.creation import creation_ticket
from hwtpm.tpm2.profile import MAX_NV_BUFFER_SIZE
from hwtpm.tpm2.requests.attestation import (
    Certify,
    CertifyCreation,
    CertifyCreationResponse,
    CertifyResponse,
    CertifyX509,
    CertifyX509Response,
    GetTime,
    GetTimeResponse,
    Quote,
    QuoteResponse,
)
from hwtpm.tpm2.requests.nv import NVCertify, NVCertifyResponse
from hwtpm.tpm2.schemes import Chosen
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.types.algorithms import TPMT_SIG_SCHEME
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_RC_ASYMMETRIC,
    TPM_RC_ATTRIBUTES,
    TPM_RC_KEY,
    TPM_RC_SCHEME,
    TPM_RC_SIZE,
    TPM_RC_TICKET,
    TPM_RC_VALUE,
    TPM_ST_ATTEST_CERTIFY,
    TPM_ST_ATTEST_CREATION,
    TPM_ST_ATTEST_NV,
    TPM_ST_ATTEST_NV_DIGEST,
    TPM_ST_ATTEST_QUOTE,
    TPM_ST_ATTEST_TIME,
)
from hwtpm.tpm2.types.structures import (
    TPMS_CERTIFY_INFO,
    TPMS_CREATION_INFO,
    TPMS_NV_CERTIFY_INFO,
    TPMS_NV_DIGEST_CERTIFY_INFO,
    TPMS_QUOTE_INFO,
    TPMS_TIME_ATTEST_INFO,
)


def signer(tpm: Tpm, handle: int, scheme: TPMT_SIG_SCHEME, *, number: int,
           parameter: int) -> tuple[Object | None, Chosen]:
    """Return the key at handle *number* and the scheme for it, which is asked for in *parameter*.

    TPM_RC_KEY with the handle's number: not a signing key; TPM_RC_SCHEME with the parameter's: see
    `schemes.choose`.
    """
    try:
        key = schemes.signing_key(tpm, handle)
    except TpmError as error:
        raise error.handle(number) from None
    try:
        return key, schemes.choose(key, scheme)
    except TpmError as error:
        raise error.parameter(parameter) from None


def _hash(chosen: Chosen, asked: TPMT_SIG_SCHEME) -> int:
    """Return the hash of what is attested: that of the signature, or without one that of *asked*.

    TPM_RC_SCHEME (parameter 2): there is none.
    """
    if chosen[1] != TPM_ALG_NULL:
        return chosen[1]
    if asked.details is None:
        raise TpmError(TPM_RC_SCHEME).parameter(2)
    return asked.details.hash_alg


@handles
def certify(tpm: Tpm, cmd: Certify) -> CertifyResponse:
    """A signed statement that an object of this name is loaded is returned.  Part 3, 18.2.

    TPM_RC_KEY (handle 2), TPM_RC_SCHEME (parameter 2): see `signer`.  TPM_RC_KEY (handle 1): a sequence.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=2, parameter=2)
    found = tpm.objects.loaded(cmd.object_handle)
    if found is None:
        raise TpmError(TPM_RC_KEY).handle(1)

    # Command Output
    info = TPMS_CERTIFY_INFO(found.name, found.qualified_name)
    return CertifyResponse(*attest(tpm, key, chosen, TPM_ST_ATTEST_CERTIFY, info, cmd.qualifying_data))


@handles
def certify_creation(tpm: Tpm, cmd: CertifyCreation) -> CertifyCreationResponse:
    """A signed statement that ties the object to its creation data is returned.  Part 3, 18.3.

    TPM_RC_KEY (handle 1), TPM_RC_SCHEME (parameter 3): see `signer`.  TPM_RC_TICKET (parameter 4): the ticket
    is not for this object and creation hash.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=1, parameter=3)
    name = tpm.objects.get(cmd.object_handle).name
    ticket = cmd.creation_ticket
    if not compare_digest(ticket.digest,
                          creation_ticket(tpm, ticket.hierarchy, name, cmd.creation_hash).digest):
        raise TpmError(TPM_RC_TICKET).parameter(4)

    # Command Output
    info = TPMS_CREATION_INFO(name, cmd.creation_hash)
    return CertifyCreationResponse(
        *attest(tpm, key, chosen, TPM_ST_ATTEST_CREATION, info, cmd.qualifying_data))


@handles
def quote(tpm: Tpm, cmd: Quote) -> QuoteResponse:
    """A signed digest of the selected PCRs is returned.  Part 3, 18.4.

    TPM_RC_KEY (handle 1), TPM_RC_SCHEME (parameter 2): see `signer`.  Without a key, the scheme that is asked
    for gives the hash of the PCR digest, so it cannot be null (TPM_RC_SCHEME, parameter 2).
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=1, parameter=2)
    alg = _hash(chosen, cmd.in_scheme)

    # Command Output
    info = TPMS_QUOTE_INFO(*tpm.pcrs.composite(cmd.pcr_select, alg))
    return QuoteResponse(*attest(tpm, key, chosen, TPM_ST_ATTEST_QUOTE, info, cmd.qualifying_data))


@handles
def get_time(tpm: Tpm, cmd: GetTime) -> GetTimeResponse:
    """The signed values of Time and Clock are returned, without obfuscation.  Part 3, 18.7.

    TPM_RC_KEY (handle 2), TPM_RC_SCHEME (parameter 2): see `signer`.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=2, parameter=2)

    # Command Output
    info = TPMS_TIME_ATTEST_INFO(tpm.clock.time_info(), FIRMWARE_VERSION)
    return GetTimeResponse(*attest(tpm, key, chosen, TPM_ST_ATTEST_TIME, info, cmd.qualifying_data))


@handles
def certify_x509(tpm: Tpm, cmd: CertifyX509) -> CertifyX509Response:
    """The rest of an X.509 certificate of the object and its signature are returned.  Part 3, 18.8.

    TPM_RC_SIZE (parameter 1): what is reserved is not empty.  TPM_RC_KEY (handle 2), TPM_RC_SCHEME
    (parameter 2): see `signer`.  TPM_RC_ASYMMETRIC (handle 1): a certificate cannot have keys of this kind.
    TPM_RC_SIZE, TPM_RC_VALUE, TPM_RC_RESERVED_BITS (parameter 3): see `certificate.parse` and
    `certificate.check_extensions`.  TPM_RC_SCHEME (handle 2): the algorithm is left out, and the scheme has
    no identifier.  TPM_RC_ATTRIBUTES (handle 1): the extensions do not agree with the object.
    """
    from hwtpm.tpm2 import certificate  # It needs RSA, which few programs load otherwise.

    # Input Validation
    if cmd.reserved:
        raise TpmError(TPM_RC_SIZE).parameter(1)
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=2, parameter=2)
    assert key is not None, "the handle cannot be TPM_RH_NULL"
    subject = tpm.objects.loaded(cmd.object_handle)
    public = certificate.public_key(subject) if subject is not None else b""
    if subject is None or not public:
        raise TpmError(TPM_RC_ASYMMETRIC).handle(1)
    try:
        partial = certificate.parse(cmd.partial_certificate)
    except TpmError as error:
        raise error.parameter(3) from None
    algorithm = b"" if partial.algorithm else certificate.algorithm(key, chosen)
    if not algorithm and not partial.algorithm:
        raise TpmError(TPM_RC_SCHEME).handle(2)
    try:
        certificate.check_extensions(partial.extensions, subject.attributes)
    except TpmError as error:
        raise (error.handle(1) if error.rc == TPM_RC_ATTRIBUTES else error.parameter(3)) from None
    added, whole = certificate.complete(partial, algorithm, public, key.name, subject.name)

    # Command Output
    digest = hashes.digest(chosen.hash_alg, whole)
    return CertifyX509Response(added, digest, schemes.sign(tpm, key, chosen, digest))


@handles
def nv_certify(tpm: Tpm, cmd: NVCertify) -> NVCertifyResponse:
    """The signed contents of the NV Index, or their digest, are returned.  Part 3, 31.16.

    TPM_RC_KEY (handle 1), TPM_RC_SCHEME (parameter 2): see `signer`.  TPM_RC_NV_AUTHORIZATION,
    TPM_RC_NV_LOCKED, TPM_RC_NV_UNINITIALIZED: as for NV_Read.  TPM_RC_NV_RANGE: what is asked for reaches
    behind the end.  TPM_RC_VALUE (parameter 3): more is asked for than one response takes.  TPM_RC_SCHEME
    (parameter 2): there is no hash for the digest, which is attested when size and offset are zero.
    """
    # Input Validation
    key, chosen = signer(tpm, cmd.sign_handle, cmd.in_scheme, number=1, parameter=2)
    index = check_read(tpm, cmd.auth_handle, cmd.nv_index)
    check_range(index, cmd.offset, cmd.size)
    if cmd.size > MAX_NV_BUFFER_SIZE:
        raise TpmError(TPM_RC_VALUE).parameter(3)
    info: TPMS_NV_CERTIFY_INFO | TPMS_NV_DIGEST_CERTIFY_INFO
    if cmd.size or cmd.offset:
        kind = TPM_ST_ATTEST_NV
        info = TPMS_NV_CERTIFY_INFO(index.name, cmd.offset, index.data[cmd.offset : cmd.offset + cmd.size])
    else:
        kind = TPM_ST_ATTEST_NV_DIGEST
        digest = hashes.digest(_hash(chosen, cmd.in_scheme), index.data)
        info = TPMS_NV_DIGEST_CERTIFY_INFO(index.name, digest)

    # Command Output
    return NVCertifyResponse(*attest(tpm, key, chosen, kind, info, cmd.qualifying_data))

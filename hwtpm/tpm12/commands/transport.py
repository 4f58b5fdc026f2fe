"""Transport sessions (Part 3, 24)."""

from __future__ import annotations

from hashlib import sha1
from struct import Struct
from typing import Final

from hwtpm.errors import TpmError
from hwtpm.tpm12 import dataw, transport
from hwtpm.tpm12.auth import authorize_key, require_usage, use_key
from hwtpm.tpm12.context import Call, Tpm, handles
from hwtpm.tpm12.profile import BUFFER_SIZE
from hwtpm.tpm12.requests.transport import (
    EstablishTransport,
    EstablishTransportResponse,
    ExecuteTransport,
    ExecuteTransportResponse,
    ReleaseTransportSigned,
    ReleaseTransportSignedResponse,
)
from hwtpm.tpm12.signing import sign, signs_digests
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE
from hwtpm.tpm12.types.codes import (
    TPM_AUTH2FAIL,
    TPM_AUTHFAIL,
    TPM_BAD_MODE,
    TPM_BAD_PARAM_SIZE,
    TPM_BAD_SCHEME,
    TPM_BADTAG,
    TPM_INAPPROPRIATE_SIG,
    TPM_NO_WRAP_TRANSPORT,
    TPM_SIZE,
    TPM_SUCCESS,
)
from hwtpm.tpm12.types.constants import (
    TPM_KEY_LEGACY,
    TPM_KEY_SIGNING,
    TPM_KEY_STORAGE,
    TPM_KH_TRANSPORT,
    TPM_TRANSPORT_ENCRYPT,
)
from hwtpm.tpm12.types.signed import TPM_SIGN_INFO
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_AUTH
from hwtpm.tpm12.wrapping import decrypt
from hwtpm.wire import decode, encode

_pack_u32 = Struct(">I").pack
_TAIL: Final = Struct(">QII")  # what the response's digest covers besides that of the wrapped response
_TEXT: Final = b"TRAN"
_AROUND: Final = 10 + 8 + 4 + 4 + 41  # octets of a response around the one that it wraps


@handles
def establish_transport(tpm: Tpm, call: Call, cmd: EstablishTransport) -> EstablishTransportResponse:
    """A session is open, whose secret is given in the clear or under a key.  Part 3, 24.1."""
    # Input Validation
    encrypts = cmd.trans_public.trans_attributes & TPM_TRANSPORT_ENCRYPT
    if cmd.enc_handle == TPM_KH_TRANSPORT:
        if call.authorizations:
            raise TpmError(TPM_BADTAG)
        if encrypts:
            raise TpmError(TPM_BAD_SCHEME)
        if len(cmd.secret) != TPM_DIGEST_SIZE:
            raise TpmError(TPM_BAD_PARAM_SIZE)
        secret = cmd.secret
    else:
        key = use_key(tpm, cmd.enc_handle)
        require_usage(key, TPM_KEY_STORAGE, TPM_KEY_LEGACY)
        authorize_key(tpm, call, 0, key)
        secret = decode(TPM_TRANSPORT_AUTH, decrypt(key, cmd.secret)).auth_data
    if encrypts:
        dataw.check_algorithm(cmd.trans_public, fips=bool(tpm.flags.permanent.fips))
    # Internal Data Update
    session = tpm.transports.add(cmd.trans_public, secret)
    # Command Output
    ticks = tpm.ticks.current()
    if transport.is_logged(session):
        transport.log_in(session, call.in_param_digest())
        transport.log_out(session, ticks, sha1(
            _pack_u32(TPM_SUCCESS) + _pack_u32(call.ordinal) + _pack_u32(tpm.locality) + encode(ticks)
            + session.trans_nonce_even).digest(), tpm.locality)
    return EstablishTransportResponse(session.trans_handle, tpm.locality, ticks, session.trans_nonce_even)


@handles
def execute_transport(tpm: Tpm, call: Call, cmd: ExecuteTransport) -> ExecuteTransportResponse:
    """The wrapped command is executed, whatever comes of it, and its response returned.  Part 3, 24.2."""
    # Input Validation
    given = call.authorizations[0]
    tpm.transports.interrupt(given.handle)
    session = tpm.transports.get(given.handle)
    request, public = transport.request_of(cmd.wrapped_cmd), session.trans_public
    area = dataw.in_command(request, cmd.wrapped_cmd)
    data = dataw.crypt(public, session.auth_data, cmd.wrapped_cmd[area],
                       session.trans_nonce_even + given.nonce_odd, b"in")
    plain = cmd.wrapped_cmd[: area.start] + data + cmd.wrapped_cmd[area.stop :]
    received = sha1(_pack_u32(request.ORD) + data).digest()
    transport.authorize(session, given, sha1(
        _pack_u32(call.ordinal) + _pack_u32(len(plain)) + received).digest(), TPM_AUTHFAIL)
    if not request.WRAPPABLE:
        raise TpmError(TPM_NO_WRAP_TRANSPORT)
    if transport.is_logged(session):
        transport.log_in(session, received, transport.key_hash(tpm, request, plain))
    # Actions
    encrypts = bool(public.trans_attributes & TPM_TRANSPORT_ENCRYPT)
    response = tpm.execute(plain, session.trans_handle, encrypts)
    if len(response) + _AROUND > BUFFER_SIZE:
        raise TpmError(TPM_SIZE)
    # Command Output
    ticks = tpm.ticks.current()
    area = dataw.in_response(request, response)
    sent = sha1(response[6:10] + _pack_u32(request.ORD) + response[area]).digest()
    if transport.is_logged(session):
        transport.log_out(session, ticks, sent, tpm.locality)
    session.trans_nonce_even = given.nonce_even = tpm.random(20)
    if given.handle not in tpm.transports.open:
        given.continues = 0  # the wrapped command has ended it
    call.wrapped = received, sent
    call.covered = _TAIL.pack(ticks.current_ticks, tpm.locality, len(response)) + sent
    data = dataw.crypt(public, session.auth_data, response[area],
                       session.trans_nonce_even + given.nonce_odd, b"out")
    return ExecuteTransportResponse(ticks.current_ticks, tpm.locality,
                                    response[: area.start] + data + response[area.stop :])


@handles
def release_transport_signed(tpm: Tpm, call: Call,
                             cmd: ReleaseTransportSigned) -> ReleaseTransportSignedResponse:
    """The session has ended; its log is signed.  Part 3, 24.3."""
    # Input Validation
    given = call.authorizations[-1]
    tpm.transports.interrupt(given.handle)
    session = tpm.transports.get(given.handle)
    key = use_key(tpm, cmd.key_handle)
    if not signs_digests(key):
        raise TpmError(TPM_INAPPROPRIATE_SIG)
    require_usage(key, TPM_KEY_SIGNING)
    authorize_key(tpm, call, 0 if len(call.authorizations) > 1 else 1, key)
    transport.authorize(session, given, call.in_param_digest(), TPM_AUTH2FAIL)
    if not transport.is_logged(session):
        raise TpmError(TPM_BAD_MODE)
    # Command Output
    ticks = tpm.ticks.current()
    transport.log_out(session, ticks, call.in_param_digest(), tpm.locality)
    info = TPM_SIGN_INFO(_TEXT, cmd.anti_replay, session.trans_digest)
    signature = sign(key, sha1(encode(info)).digest())
    given.continues = 0
    return ReleaseTransportSignedResponse(tpm.locality, ticks, signature)

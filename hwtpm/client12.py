"""Typed TPM 1.2 requests to a TPM that takes and gives octets, with its sessions (Part 1, 18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1
from hmac import compare_digest
from hmac import digest as hmac
from struct import Struct
from struct import error as StructError
from typing import Any, TypeVar

from hwtpm.command import response_of
from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.kdf import mgf1
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm12 import dataw
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.sessions import DSAP, OIAP, OSAP
from hwtpm.tpm12.requests.transport import (
    EstablishTransport,
    EstablishTransportResponse,
    ExecuteTransport,
    ReleaseTransportSigned,
    ReleaseTransportSignedResponse,
)
from hwtpm.tpm12.types.codes import TPM_SUCCESS
from hwtpm.tpm12.types.constants import TPM_ET_XOR, TPM_KH_TRANSPORT, TPM_TAG_RQU_COMMAND, TPM_TAG_RSP_COMMAND
from hwtpm.tpm12.types.ticks import TPM_CURRENT_TICKS
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_LOG_IN, TPM_TRANSPORT_LOG_OUT, TPM_TRANSPORT_PUBLIC
from hwtpm.wire import Wire, encode, handle_area, parameter_reader, parameter_writer

_HEADER = Struct(">HII")
_U32 = Struct(">I")
_TRANSPORTED = Struct(">QII")
R = TypeVar("R", bound=Wire)


class Session:
    """An open session.  *key* is the HMAC key: an entity's secret for OIAP, the shared secret else.

    `continues` False ends it with the next command.  `adip` is the scheme for secrets that travel.
    """

    def __init__(self, handle: int, nonce_even: bytes, key: bytes, adip: int = TPM_ET_XOR) -> None:
        self.handle, self.nonce_even, self.key, self.adip = handle, nonce_even, key, adip
        self.nonce_odd = b""
        self.continues = True
        self.next_odd = b""
        self.last_even = b""

    def encrypt(self, secret: bytes, *, odd: bool = False) -> bytes:
        """Return *secret* as the next command carries it; the second of a command is *odd*."""
        nonce = self.next_odd if odd else self.nonce_even
        if self.adip == TPM_ET_XOR:
            pad = sha1(self.key + nonce).digest()
            return bytes(a ^ b for a, b in zip(secret, pad, strict=True))
        return symmetric.encrypt(ids.AES, ids.CTR, self.key[:16], nonce[:16], secret)[0]

    def encrypt_data(self, data: bytes) -> bytes:
        """Return *data* as the next command, a TPM_Sealx, carries it."""
        return self._crypt_data(data, self.nonce_even + self.next_odd)

    def decrypt_data(self, data: bytes) -> bytes:
        """Return the data of the last response, of a TPM_Unseal of what TPM_Sealx has sealed."""
        return self._crypt_data(data, self.last_even + self.nonce_odd)

    def _crypt_data(self, data: bytes, nonces: bytes) -> bytes:
        if self.adip == TPM_ET_XOR:
            mask = mgf1(ids.SHA1, nonces + b"XOR" + self.key, len(data))
            return bytes(a ^ b for a, b in zip(data, mask, strict=True))
        return symmetric.encrypt(ids.AES, ids.CTR, self.key[:16], sha1(nonces).digest()[:16], data)[0]


class Client:
    """A TPM 1.2 at the other end of *execute*; *entropy* gives the nonces."""

    def __init__(self, execute: Callable[[bytes], bytes], entropy: Callable[[int], bytes]) -> None:
        self._execute, self._entropy = execute, entropy

    def oiap(self, secret: bytes) -> Session:
        """Return a session in which *secret* authorizes."""
        opened = self.run(OIAP())
        return self._session(Session(opened.auth_handle, opened.nonce_even, secret))

    def osap(self, entity_type: int, entity_value: int, secret: bytes, adip: int = TPM_ET_XOR) -> Session:
        """Return a session for one entity, whose *secret* is known here."""
        odd = self._entropy(20)
        opened = self.run(OSAP(adip << 8 | entity_type, entity_value, odd))
        shared = hmac(secret, opened.nonce_even_osap + odd, "sha1")
        return self._session(Session(opened.auth_handle, opened.nonce_even, shared, adip))

    def dsap(self, entity_type: int, entity_value: bytes, secret: bytes, key_handle: int = 0,
             adip: int = TPM_ET_XOR) -> Session:
        """Return a session for what a delegation allows, whose *secret* is known here.

        *entity_value* is a row's number (UINT32) or a blob, as *entity_type* says.
        """
        odd = self._entropy(20)
        opened = self.run(DSAP(adip << 8 | entity_type, key_handle, odd, entity_value))
        shared = hmac(secret, opened.nonce_even_dsap + odd, "sha1")
        return self._session(Session(opened.auth_handle, opened.nonce_even, shared, adip))

    def establish(self, public: TPM_TRANSPORT_PUBLIC, secret: bytes, enc_handle: int = TPM_KH_TRANSPORT,
                  encrypted: bytes | None = None, *sessions: Session) -> Transport:
        """Return a client whose commands travel in a transport session of this one.

        *encrypted* is the TPM_TRANSPORT_AUTH with *secret* under the key *enc_handle*; without one the secret
        travels in the clear.
        """
        request = EstablishTransport(enc_handle, public, secret if encrypted is None else encrypted)
        return Transport(self, self._entropy, request, secret, self.run(request, *sessions))

    def _session(self, session: Session) -> Session:
        session.next_odd = self._entropy(20)
        return session

    def transmit(self, command: bytes) -> bytes:
        """Return the response octets to the octets of *command*, whatever they are."""
        return self._execute(command)

    def run(self, request: Command[R], *sessions: Session) -> R:
        """Return the response to *request*; raises TpmError for a return code other than TPM_SUCCESS.

        Raises ProtocolError for a response that is malformed or not authentic.
        """
        kind = type(request)
        handles = b"".join(_U32.pack(getattr(request, m.name)) for m in handle_area(kind))
        parameters = parameter_writer(kind)(request)
        digest = sha1(_U32.pack(request.ORD) + parameters).digest()
        body = handles + parameters + b"".join(self._authorization(s, digest) for s in sessions)
        header = _HEADER.pack(TPM_TAG_RQU_COMMAND + len(sessions), 10 + len(body), request.ORD)
        try:
            return self._response(request, self._exchange(kind, header + body), sessions)
        except StructError:
            raise ProtocolError("a TPM response that ends too early") from None

    def _exchange(self, kind: type[Command[Any]], command: bytes) -> bytes:
        return self._execute(command)

    def _authorization(self, session: Session, digest: bytes) -> bytes:
        session.nonce_odd, session.next_odd = session.next_odd, self._entropy(20)
        session.last_even = session.nonce_even
        continues = bytes([session.continues])
        proof = hmac(session.key, digest + session.nonce_even + session.nonce_odd + continues, "sha1")
        return _U32.pack(session.handle) + session.nonce_odd + continues + proof

    def _response(self, request: Command[R], raw: bytes, sessions: Sequence[Session]) -> R:
        if len(raw) < 10:
            raise ProtocolError(f"a TPM response of {len(raw)} octets")
        tag, size, rc = _HEADER.unpack_from(raw)
        if size != len(raw):
            raise ProtocolError(f"a TPM response of {len(raw)} octets that says {size}")
        if rc != TPM_SUCCESS:
            raise TpmError(rc)
        if tag != TPM_TAG_RSP_COMMAND + len(sessions):
            raise ProtocolError(f"a TPM response with tag 0x{tag:04x}")
        cls = response_of(type(request))
        handles = Struct(f">{len(handle_area(cls))}I")
        start, end = 10 + handles.size, len(raw) - 41 * len(sessions)
        digest = sha1(_U32.pack(rc) + _U32.pack(request.ORD) + raw[start:end]).digest()
        for i, session in enumerate(sessions):
            given = raw[end + 41 * i : end + 41 * (i + 1)]
            session.nonce_even, continues, proof = given[:20], given[20:21], given[21:]
            expected = hmac(session.key, digest + session.nonce_even + session.nonce_odd + continues, "sha1")
            if not compare_digest(expected, proof):
                raise ProtocolError("a TPM response whose HMAC is wrong")
        value: Any = parameter_reader(cls, numbered=False)(raw[:end], start, handles.unpack_from(raw, 10))[0]
        return value  # type: ignore[no-any-return]


class Transport(Client):
    """A client inside of a transport session (Part 3, 24).

    `log` is the digest of what the TPM logs; it is right if `moduli` has the public keys, by handle, of
    commands with key handles.  `continues` False ends the session with the next command.
    """

    def __init__(self, outer: Client, entropy: Callable[[int], bytes], request: EstablishTransport,
                 secret: bytes, opened: EstablishTransportResponse) -> None:
        super().__init__(outer._execute, entropy)
        self.handle, self.locality = opened.trans_handle, opened.locality
        self.moduli: dict[int, bytes] = {}
        self.continues = True
        self._public, self._secret = request.trans_public, secret
        self._even, self._ticks = opened.trans_nonce_even, opened.current_ticks
        self.log = bytes(20)
        self._log_in(sha1(_U32.pack(request.ORD) + parameter_writer(EstablishTransport)(request)).digest(),
                     bytes(20))
        self._log_out(sha1(_U32.pack(TPM_SUCCESS) + _U32.pack(request.ORD)
                           + parameter_writer(EstablishTransportResponse)(opened)).digest())

    def release(self, key_handle: int, anti_replay: bytes,
                *sessions: Session) -> ReleaseTransportSignedResponse:
        """End the session; return the signature of the log, which is complete then."""
        request = ReleaseTransportSigned(key_handle, anti_replay)
        own = Session(self.handle, self._even, self._secret)
        own.next_odd = self._entropy(20)
        outer = Client(self._execute, self._entropy)
        response = outer.run(request, *sessions, own)
        self.locality, self._ticks = response.locality, response.current_ticks
        self._log_out(sha1(_U32.pack(request.ORD) + anti_replay).digest())
        return response

    def _log_in(self, parameters: bytes, key_hash: bytes) -> None:
        self.log = sha1(self.log + encode(TPM_TRANSPORT_LOG_IN(parameters, key_hash))).digest()

    def _log_out(self, parameters: bytes) -> None:
        record = TPM_TRANSPORT_LOG_OUT(self._ticks, parameters, self.locality)
        self.log = sha1(self.log + encode(record)).digest()

    def _key_hash(self, kind: type[Command[Any]], command: bytes) -> bytes:
        handles = (_U32.unpack_from(command, 10 + 4 * i)[0] for i in range(kind.KEY_HANDLES))
        moduli = [self.moduli[handle] for handle in handles if handle in self.moduli]
        digests = b"".join(sha1(_U32.pack(len(n)) + n).digest() for n in moduli)
        return sha1(digests).digest() if digests else bytes(20)

    def _exchange(self, kind: type[Command[Any]], command: bytes) -> bytes:
        odd = self._entropy(20)
        area = dataw.in_command(kind, command)
        received = sha1(_U32.pack(kind.ORD) + command[area]).digest()
        self._log_in(received, self._key_hash(kind, command))
        data = dataw.crypt(self._public, self._secret, command[area], self._even + odd, b"in")
        wrapped = command[: area.start] + data + command[area.stop :]
        size = _U32.pack(len(wrapped))
        digest = sha1(_U32.pack(ExecuteTransport.ORD) + size + received).digest()
        continues = bytes([self.continues])
        body = size + wrapped + _U32.pack(self.handle) + odd + continues + hmac(
            self._secret, digest + self._even + odd + continues, "sha1")
        header = _HEADER.pack(TPM_TAG_RQU_COMMAND + 1, 10 + len(body), ExecuteTransport.ORD)
        raw = self._execute(header + body)
        if (rc := _U32.unpack_from(raw, 6)[0]) != TPM_SUCCESS:
            raise TpmError(rc)
        told, end = raw[10:26], len(raw) - 41
        ticks, self.locality, _ = _TRANSPORTED.unpack(told)
        self._ticks = TPM_CURRENT_TICKS(ticks, self._ticks.tick_rate, self._ticks.tick_nonce)
        self._even, continues, proof = raw[end : end + 20], raw[end + 20 : end + 21], raw[end + 21 :]
        shown = raw[26:end]
        area = dataw.in_response(kind, shown)
        data = dataw.crypt(self._public, self._secret, shown[area], self._even + odd, b"out")
        sent = sha1(shown[6:10] + _U32.pack(kind.ORD) + data).digest()
        digest = sha1(_U32.pack(TPM_SUCCESS) + _U32.pack(ExecuteTransport.ORD) + told + sent).digest()
        expected = hmac(self._secret, digest + self._even + odd + continues, "sha1")
        if not compare_digest(expected, proof):
            raise ProtocolError("a TPM response whose HMAC is wrong")
        self._log_out(sent)
        return shown[: area.start] + data + shown[area.stop :]

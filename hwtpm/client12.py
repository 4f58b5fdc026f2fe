"""Typed TPM 1.2 requests to a TPM that takes and gives octets, with its sessions (Part 1, 18)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha1
from hmac import compare_digest
from hmac import digest as hmac
from struct import Struct
from typing import Any, TypeVar

from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.kdf import mgf1
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm12.requests.command import Command, response_of
from hwtpm.tpm12.requests.sessions import DSAP, OIAP, OSAP
from hwtpm.tpm12.types.codes import TPM_SUCCESS
from hwtpm.tpm12.types.constants import TPM_ET_XOR, TPM_TAG_RQU_COMMAND, TPM_TAG_RSP_COMMAND
from hwtpm.wire import Wire, handle_area, parameter_reader, parameter_writer

_HEADER = Struct(">HII")
_U32 = Struct(">I")
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

    def _session(self, session: Session) -> Session:
        session.next_odd = self._entropy(20)
        return session

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
        return self._response(request, self._execute(header + body), sessions)

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
        value: Any = parameter_reader(cls, numbered=False)(raw[:end], start, *handles.unpack_from(raw, 10))[0]
        return value  # type: ignore[no-any-return]

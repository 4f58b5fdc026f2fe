"""A typed TPM 2.0 client: request -> bytes -> transport -> bytes -> response.

Used by whoever needs a TPM rather than to be one: the vTPM manager for the chip, tests and benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest
from struct import Struct
from struct import error as StructError
from typing import Any, Protocol, TypeVar

from hwtpm.command import response_of
from hwtpm.crypto import hashes, kdf, symmetric
from hwtpm.errors import ProtocolError, TpmError
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.session import StartAuthSession
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF
from hwtpm.tpm2.types.attributes import (
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_ALG_XOR,
    TPM_RC_SUCCESS,
    TPM_SE_HMAC,
    TPM_ST_NO_SESSIONS,
    TPM_ST_SESSIONS,
)
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RS_PW
from hwtpm.wire import Wire, handle_area, parameter_reader, parameter_writer

_HEADER, _U32, _U16 = Struct(">HII"), Struct(">I"), Struct(">H")
R = TypeVar("R", bound=Wire)


class Execute(Protocol):
    """Anything that gives the response octets to command octets."""

    def __call__(self, command: bytes, /) -> bytes: ...


class Password:
    """A password authorization of the handle at the same position."""

    def __init__(self, auth: bytes = b"") -> None:
        self.auth = auth


class Session:
    """An HMAC or policy session that the TPM has loaded; made by `Client.start_session`.

    *auth* is the authValue of the entity that the next command uses it for; *attributes* are sent with each
    command.  The nonces are rolled by the client.
    """

    def __init__(self, handle: int, auth_hash: int, symmetric_definition: TPMT_SYM_DEF, key: bytes,
                 nonce_caller: bytes, nonce_tpm: bytes) -> None:
        self.handle, self.auth_hash, self.symmetric = handle, auth_hash, symmetric_definition
        self.key, self.nonce_caller, self.nonce_tpm = key, nonce_caller, nonce_tpm
        self.attributes = TPMA_SESSION_CONTINUESESSION
        self.auth = b""
        self.bound = False  # the entity it authorizes is the one it is bound to: its authValue is in the key

    def hmac_key(self) -> bytes:
        """Return the key of the command's and the response's HMAC."""
        return self.key if self.bound else self.key + self.auth.rstrip(b"\0")

    def crypt(self, newer: bytes, older: bytes, data: bytes, *, encrypt: bool, authorizes: bool) -> bytes:
        """Return *data*, a parameter, encrypted or decrypted (Part 1, "Session-based Encryption")."""
        key = self.key + (self.auth.rstrip(b"\0") if authorizes else b"")
        if self.symmetric.algorithm == TPM_ALG_XOR:
            return kdf.xor_obfuscate(self.auth_hash, key, newer, older, data)
        bits = self.symmetric.key_bits or 0
        width = symmetric.block_size(self.symmetric.algorithm) * 8
        material = kdf.kdfa(self.auth_hash, key, b"CFB", newer, older, bits + width)
        cipher = symmetric.cfb_encrypt if encrypt else symmetric.cfb_decrypt
        return cipher(self.symmetric.algorithm, material[: bits // 8], material[bits // 8 :], data)


Authorization = Password | Session


class Client:
    """A TPM 2.0 at the other end of *execute*; *entropy* gives the nonces.

    Names of objects and NV Indices, which HMACs cover, are told through `names` (handle to Name); for every
    other handle the Name is the handle.
    """

    def __init__(self, execute: Execute, entropy: Callable[[int], bytes]) -> None:
        self._execute, self._entropy = execute, entropy
        self.names: dict[int, bytes] = {}

    def transmit(self, command: bytes) -> bytes:
        """Return the response octets to the octets of *command*, whatever they are."""
        return self._execute(command)

    def run(self, request: Command[R], *authorizations: Authorization) -> R:
        """Return the response to *request*; raises TpmError for a response code other than TPM_RC_SUCCESS.

        The authorizations stand for the handles in their order; further sessions encrypt or audit.  Raises
        ProtocolError for a response that is malformed or not authentic.
        """
        area = handle_area(type(request))
        handles = [getattr(request, m.name) for m in area]
        parameters = parameter_writer(type(request))(request)
        roles = [bool(m.role is not None and m.role.value) for m in area]
        sent, parameters = self._authorize(request.CC, handles, roles, parameters, authorizations)
        body = b"".join(map(_U32.pack, handles)) + sent + parameters
        tag = TPM_ST_SESSIONS if authorizations else TPM_ST_NO_SESSIONS
        raw = self._execute(_HEADER.pack(tag, 10 + len(body), request.CC) + body)
        try:
            return self._response(request, roles, raw, authorizations)
        except (StructError, IndexError):
            raise ProtocolError("a TPM response that ends too early") from None

    def start_session(self, kind: int = TPM_SE_HMAC, auth_hash: int = TPM_ALG_SHA256,
                      symmetric_definition: TPMT_SYM_DEF | None = None, *, bind: int = TPM_RH_NULL,
                      bind_auth: bytes = b"", tpm_key: int = TPM_RH_NULL, salt: bytes = b"",
                      encrypted_salt: bytes = b"") -> Session:
        """Return a new session; *salt* is what *encrypted_salt* carries to *tpm_key*."""
        definition = symmetric_definition or TPMT_SYM_DEF(TPM_ALG_NULL, None, None)
        nonce = self._entropy(hashes.size(auth_hash))
        started = self.run(
            StartAuthSession(tpm_key, bind, nonce, encrypted_salt, kind, definition, auth_hash))
        secret = bind_auth.rstrip(b"\0") + salt
        key = b""
        if bind != TPM_RH_NULL or tpm_key != TPM_RH_NULL:
            key = kdf.kdfa(auth_hash, secret, b"ATH", started.nonce_tpm, nonce, hashes.size(auth_hash) * 8)
        return Session(started.session_handle, auth_hash, definition, key, nonce, started.nonce_tpm)

    def _name(self, handle: int) -> bytes:
        return self.names.get(handle) or _U32.pack(handle)

    def _authorize(self, code: int, handles: list[int], roles: list[bool], parameters: bytes,
                   authorizations: Sequence[Authorization]) -> tuple[bytes, bytes]:
        """Return the authorization area and the parameters, encrypted where a session asks for it."""
        if not authorizations:
            return b"", parameters
        sessions = [a for a in authorizations if isinstance(a, Session)]
        for session in sessions:
            session.nonce_caller = self._entropy(len(session.nonce_tpm))
        decrypting = next((s for s in sessions if s.attributes & TPMA_SESSION_DECRYPT), None)
        encrypting = next((s for s in sessions if s.attributes & TPMA_SESSION_ENCRYPT), None)
        if decrypting is not None:
            end = 2 + _U16.unpack_from(parameters)[0]
            authorizes = _authorizes(authorizations.index(decrypting), roles)
            parameters = parameters[:2] + decrypting.crypt(
                decrypting.nonce_caller, decrypting.nonce_tpm, parameters[2:end], encrypt=True,
                authorizes=authorizes) + parameters[end:]
        names = b"".join(map(self._name, handles))
        area = b""
        for i, a in enumerate(authorizations):
            if isinstance(a, Password):
                area += _U32.pack(TPM_RS_PW) + b"\0\0" + bytes([TPMA_SESSION_CONTINUESESSION])
                area += _U16.pack(len(a.auth)) + a.auth
                continue
            key = a.hmac_key() if _authorizes(i, roles) else a.key
            mac = b""
            if key:
                extra = b""
                if i == 0 and _authorizes(0, roles):
                    if decrypting is not None and decrypting is not a:
                        extra = decrypting.nonce_tpm
                    if encrypting is not None and encrypting is not a and encrypting is not decrypting:
                        extra += encrypting.nonce_tpm
                cp_hash = hashes.digest(a.auth_hash, _U32.pack(code), names, parameters)
                mac = hashes.hmac(a.auth_hash, key, cp_hash, a.nonce_caller, a.nonce_tpm, extra,
                                  bytes([a.attributes]))
            area += _U32.pack(a.handle) + _U16.pack(len(a.nonce_caller)) + a.nonce_caller
            area += bytes([a.attributes]) + _U16.pack(len(mac)) + mac
        return _U32.pack(len(area)) + area, parameters

    def _response(self, request: Command[R], roles: list[bool], raw: bytes,
                  authorizations: Sequence[Authorization]) -> R:
        if len(raw) < 10:
            raise ProtocolError(f"a TPM response of {len(raw)} octets")
        tag, size, rc = _HEADER.unpack_from(raw)
        if size != len(raw):
            raise ProtocolError(f"a TPM response of {len(raw)} octets that says {size}")
        if rc != TPM_RC_SUCCESS:
            raise TpmError(rc)
        if tag != (TPM_ST_SESSIONS if authorizations else TPM_ST_NO_SESSIONS):
            # Without this, whoever leaves the sessions out would have no HMAC to forge.
            raise ProtocolError(f"a TPM response with tag 0x{tag:04x}")
        cls = response_of(type(request))
        out, off = handle_area(cls), 10
        handles = Struct(f">{len(out)}I").unpack_from(raw, off)
        off += 4 * len(out)
        end = len(raw)
        parameters = raw[off:]
        if tag == TPM_ST_SESSIONS:
            end = off + 4 + _U32.unpack_from(raw, off)[0]
            parameters = raw[off + 4 : end]
            parameters = self._acknowledged(request.CC, roles, parameters, raw[end:], authorizations)
        value: Any = parameter_reader(cls)(parameters, 0, handles)[0]
        return value  # type: ignore[no-any-return]

    def _acknowledged(self, code: int, roles: list[bool], parameters: bytes, area: bytes,
                      authorizations: Sequence[Authorization]) -> bytes:
        """Check the response's HMACs, roll the nonces, and return the parameters decrypted."""
        off = 0
        encrypting: tuple[int, Session] | None = None
        for i, a in enumerate(authorizations):
            (n,) = _U16.unpack_from(area, off)
            nonce = area[off + 2 : off + 2 + n]
            off += 2 + n
            attributes = area[off]
            (n,) = _U16.unpack_from(area, off + 1)
            mac = area[off + 3 : off + 3 + n]
            off += 3 + n
            if isinstance(a, Password):
                continue
            key = a.hmac_key() if _authorizes(i, roles) else a.key
            a.nonce_tpm = nonce
            if key:
                rp_hash = hashes.digest(a.auth_hash, _U32.pack(TPM_RC_SUCCESS), _U32.pack(code), parameters)
                expected = hashes.hmac(a.auth_hash, key, rp_hash, nonce, a.nonce_caller, bytes([attributes]))
                if not compare_digest(expected, mac):
                    raise ProtocolError("a TPM response whose HMAC is wrong")
            if a.attributes & TPMA_SESSION_ENCRYPT:
                encrypting = i, a
        if encrypting is None:
            return parameters
        i, a = encrypting
        end = 2 + _U16.unpack_from(parameters)[0]
        plain = a.crypt(a.nonce_tpm, a.nonce_caller, parameters[2:end], encrypt=False,
                        authorizes=_authorizes(i, roles))
        return parameters[:2] + plain + parameters[end:]


def _authorizes(position: int, roles: list[bool]) -> bool:
    """Tell whether the session at *position* stands for a handle, rather than only encrypting or auditing."""
    return position < len(roles) and roles[position]

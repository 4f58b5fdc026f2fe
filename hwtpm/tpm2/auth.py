"""The authorization area: parse it, check it, and answer it.

`SessionArea.parse` follows Part 3, 5.5, `authorize` 5.6, `decrypt` 5.7; `respond` writes the response's area
(Part 1, "Response Authorization").  Nothing of the TPM changes before all checks have passed, except the
dictionary-attack counters.
"""

from __future__ import annotations

from hmac import compare_digest
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING

from hwtpm.crypto import hashes, kdf, symmetric
from hwtpm.errors import TpmError
from hwtpm.tpm2 import entity, password
from hwtpm.tpm2.types.attributes import (
    TPMA_NV_WRITTEN,
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_AUDITEXCLUSIVE,
    TPMA_SESSION_AUDITRESET,
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_XOR,
    TPM_RC_ATTRIBUTES,
    TPM_RC_AUTH_FAIL,
    TPM_RC_AUTH_MISSING,
    TPM_RC_AUTH_TYPE,
    TPM_RC_AUTH_UNAVAILABLE,
    TPM_RC_AUTHSIZE,
    TPM_RC_BAD_AUTH,
    TPM_RC_EXCLUSIVE,
    TPM_RC_EXPIRED,
    TPM_RC_HANDLE,
    TPM_RC_INSUFFICIENT,
    TPM_RC_LOCALITY,
    TPM_RC_MODE,
    TPM_RC_NONCE,
    TPM_RC_PCR_CHANGED,
    TPM_RC_POLICY_CC,
    TPM_RC_POLICY_FAIL,
    TPM_RC_PP,
    TPM_RC_REFERENCE_S0,
    TPM_RC_RESERVED_BITS,
    TPM_RC_SIZE,
    TPM_RC_SUCCESS,
    TPM_RC_SYMMETRIC,
    TPM_RC_VALUE,
    TPM_SE_HMAC,
    TPM_SE_TRIAL,
    TPM_CC_Create,
    TPM_CC_CreateLoaded,
    TPM_CC_CreatePrimary,
    TPM_CC_PolicySecret,
)
from hwtpm.tpm2.types.handles import (
    HMAC_SESSION_FIRST,
    HMAC_SESSION_LAST,
    POLICY_SESSION_FIRST,
    POLICY_SESSION_LAST,
    TPM_HT_HMAC_SESSION,
    TPM_HT_NV_INDEX,
    TPM_RH_LOCKOUT,
    TPM_RS_PW,
)

if TYPE_CHECKING:
    from hwtpm.tpm2.context import Plan, Tpm
    from hwtpm.tpm2.state.sessions import Session

MAX_SESSIONS = 3  # in one command (Part 1, "Session-Based Authorizations")
_MAX_NONCE = 64
_RESERVED = 0x18
_NOT_FOR_PASSWORDS = (TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT | TPMA_SESSION_AUDIT
                      | TPMA_SESSION_AUDITEXCLUSIVE | TPMA_SESSION_AUDITRESET)
_PURPOSES = TPMA_SESSION_DECRYPT | TPMA_SESSION_ENCRYPT | TPMA_SESSION_AUDIT
_U8, _U16, _U32 = Struct("B"), Struct(">H"), Struct(">I")
_START = Struct(">IH")  # of a session: its handle and the size of the nonce
_END = Struct(">BH")  # of a response's session: its attributes and the size of the HMAC
_RP_START = _U32.pack(TPM_RC_SUCCESS)
_TEMPLATE_COMMANDS = (TPM_CC_Create, TPM_CC_CreatePrimary, TPM_CC_CreateLoaded)


class Use:
    """One session of the authorization area, and the entity that it authorizes, if any."""

    __slots__ = ("attributes", "auth", "entity", "handle", "include_auth", "nonce_caller", "number",
                 "session")

    def __init__(self, number: int, handle: int, nonce_caller: bytes, attributes: int, auth: bytes) -> None:
        self.number, self.handle = number, handle
        self.nonce_caller, self.attributes, self.auth = nonce_caller, attributes, auth
        self.session: Session | None = None  # None for a password
        self.entity: int | None = None
        self.include_auth = False


class SessionArea:
    """The sessions of one command: *code* with *handles* and the octets of its *parameters*."""

    __slots__ = ("_cp_hashes", "audit", "code", "decrypting", "encrypting", "handles", "parameters", "plan",
                 "uses")

    def __init__(self, plan: Plan, code: int, handles: tuple[int, ...], uses: list[Use],
                 parameters: bytes) -> None:
        self.plan, self.code, self.handles = plan, code, handles
        self.uses, self.parameters = uses, parameters
        self.decrypting: Use | None = None
        self.encrypting: Use | None = None
        self.audit: Use | None = None
        self._cp_hashes: dict[int, bytes] = {}

    @classmethod
    def parse(cls, tpm: Tpm, plan: Plan, code: int, handles: tuple[int, ...], buf: bytes,
              off: int) -> SessionArea:
        """Return the sessions that start with the authorizationSize at *off* of the command *buf*.

        Raises TPM_RC_AUTHSIZE for an impossible size, TPM_RC_REFERENCE_Sx for a session that is not loaded,
        and format-one codes with the session's number for everything else that is wrong with one of them.
        """
        if len(buf) < off + 4:
            raise TpmError(TPM_RC_INSUFFICIENT)
        (size,) = _U32.unpack_from(buf, off)
        off += 4
        end = off + size
        if size < 9 or end > len(buf):
            raise TpmError(TPM_RC_AUTHSIZE)
        uses: list[Use] = []
        area = cls(plan, code, handles, uses, buf[end:])
        while off < end:
            number = len(uses) + 1
            if number > MAX_SESSIONS:
                raise TpmError(TPM_RC_SIZE).session(number)
            use, off = _parse_one(buf, off, end, number)
            area._classify(tpm, use)
            uses.append(use)
        return area

    def _classify(self, tpm: Tpm, use: Use) -> None:
        """Find the session and check that its attributes agree with the command."""
        attributes, number = use.attributes, use.number
        if use.handle == TPM_RS_PW:
            if attributes & _NOT_FOR_PASSWORDS:
                raise TpmError(TPM_RC_ATTRIBUTES).session(number)
            if use.nonce_caller:
                raise TpmError(TPM_RC_NONCE).session(number)
            return
        try:
            session = use.session = tpm.sessions.get(use.handle)
        except KeyError:
            raise TpmError(TPM_RC_REFERENCE_S0 + number - 1) from None
        if (session.kind == TPM_SE_HMAC) != (use.handle >> 24 == TPM_HT_HMAC_SESSION):
            raise TpmError(TPM_RC_HANDLE).session(number)
        if number > 1 and any([other.handle == use.handle for other in self.uses]):
            raise TpmError(TPM_RC_HANDLE).session(number)
        if attributes & _PURPOSES:
            self._check_purposes(tpm, use, session)

    def _check_purposes(self, tpm: Tpm, use: Use, session: Session) -> None:
        """Check decrypt, encrypt and audit: each for one session at most, and for one that can do it."""
        attributes, number = use.attributes, use.number
        if attributes & TPMA_SESSION_DECRYPT:
            if not self.plan.decryptable or self.decrypting is not None:
                raise TpmError(TPM_RC_ATTRIBUTES).session(number)
            if session.symmetric.algorithm == TPM_ALG_NULL:
                raise TpmError(TPM_RC_SYMMETRIC).session(number)
            self.decrypting = use
        if attributes & TPMA_SESSION_ENCRYPT:
            if not self.plan.encryptable or self.encrypting is not None:
                raise TpmError(TPM_RC_ATTRIBUTES).session(number)
            if session.symmetric.algorithm == TPM_ALG_NULL:
                raise TpmError(TPM_RC_SYMMETRIC).session(number)
            self.encrypting = use
        if attributes & TPMA_SESSION_AUDIT:
            if self.audit is not None or session.kind != TPM_SE_HMAC:
                raise TpmError(TPM_RC_ATTRIBUTES).session(number)
            if (attributes & TPMA_SESSION_AUDITEXCLUSIVE and not attributes & TPMA_SESSION_AUDITRESET
                    and session.is_audit and tpm.sessions.exclusive != use.handle):
                raise TpmError(TPM_RC_EXCLUSIVE)
            self.audit = use

    def authorize(self, tpm: Tpm) -> None:
        """Check every session against the entity it is for (Part 3, 5.6).

        Raises TPM_RC_AUTH_MISSING, or the code of the first session that fails, with its number where the
        format has one.  Failures of protected entities are counted (TPM_RC_AUTH_FAIL), others are not
        (TPM_RC_BAD_AUTH).
        """
        needed = self.plan.auth_count
        if len(self.uses) < needed:
            raise TpmError(TPM_RC_AUTH_MISSING)
        for use in self.uses:
            if use.number <= needed:
                use.entity = self.handles[use.number - 1]
            try:
                self._authorize_one(tpm, use)
            except TpmError as error:
                raise error.session(use.number) from None
        if self.audit is not None and self.audit.session is not None:
            # The audit digest is over the parameters and Names as they came in.
            self.cp_hash(tpm, self.audit.session.auth_hash)

    def _authorize_one(self, tpm: Tpm, use: Use) -> None:
        session = use.session
        if session is None:
            if use.entity is None:
                raise TpmError(TPM_RC_HANDLE)
        else:
            if session.kind == TPM_SE_TRIAL:
                raise TpmError(TPM_RC_ATTRIBUTES)
            if session.is_da_bound:
                tpm.lockout.check(session.is_lockout_bound)
        if use.entity is None:
            if not use.attributes & _PURPOSES:
                raise TpmError(TPM_RC_ATTRIBUTES)
            self._check_hmac(tpm, use)
        else:
            self._check_entity(tpm, use, use.entity, self.plan.roles[use.number - 1])

    def _check_entity(self, tpm: Tpm, use: Use, handle: int, role: str) -> None:
        """Check that *use* may stand for *role* of the entity, and that it does."""
        session = use.session
        if session is None:
            password.check(tpm, handle, role, self.code, use.auth)
            return
        entity.check_presence(tpm, handle, self.code)
        is_policy = session.kind != TPM_SE_HMAC
        if is_policy:
            use.include_auth = session.needs_auth_value or session.needs_password
        else:
            use.include_auth = not (session.bound and session.bound == entity.bound(tpm, handle))
        if use.include_auth and entity.da_protected(tpm, handle):
            tpm.lockout.check(handle == TPM_RH_LOCKOUT)
        if is_policy:
            if not entity.policy_usable(tpm, handle, role, self.code):
                raise TpmError(TPM_RC_AUTH_UNAVAILABLE)
            self._check_policy(tpm, session, handle, role)
        else:
            if entity.needs_policy(tpm, handle, role):
                raise TpmError(TPM_RC_AUTH_TYPE)
            if not entity.auth_value_usable(tpm, handle, role, self.code):
                raise TpmError(TPM_RC_AUTH_UNAVAILABLE)
        counts = use.include_auth and handle >> 24 == TPM_HT_NV_INDEX
        try:
            if is_policy and session.needs_password:
                if not compare_digest(use.auth.rstrip(b"\0"), entity.auth_value(tpm, handle)):
                    self._failed(tpm, use)
            else:
                self._check_hmac(tpm, use)
        except TpmError:
            if counts:
                password.count_pin(tpm, handle, success=False)
            raise
        if counts:
            password.count_pin(tpm, handle, success=True)

    def _check_policy(self, tpm: Tpm, session: Session, handle: int, role: str) -> None:
        """Check the assertions of a policy session (Part 1, "Policy Session Context Values")."""
        if self.code == TPM_CC_PolicySecret and not (session.needs_password or session.needs_auth_value):
            raise TpmError(TPM_RC_MODE)
        if session.check_pcr and session.pcr_counter != tpm.pcrs.counter:
            raise TpmError(TPM_RC_PCR_CHANGED)
        alg, digest = entity.policy(tpm, handle)
        if alg != session.auth_hash or not compare_digest(session.policy_digest, digest):
            raise TpmError(TPM_RC_POLICY_FAIL)
        if session.timeout and (session.timeout < tpm.clock.time_ms() or session.epoch != tpm.clock.epoch):
            raise TpmError(TPM_RC_EXPIRED)
        if session.command_code:
            if session.command_code != self.code:
                raise TpmError(TPM_RC_POLICY_CC)
        elif role in ("ADMIN", "DUP"):
            raise TpmError(TPM_RC_POLICY_FAIL)
        if session.command_locality:
            allowed = session.command_locality
            if allowed > 31 or not allowed >> tpm.locality & 1:
                raise TpmError(TPM_RC_LOCALITY)
        if session.needs_pp and not tpm.physical_presence:
            raise TpmError(TPM_RC_PP)
        for wanted, found in ((session.cp_hash, self.cp_hash), (session.name_hash, self._name_hash),
                              (session.template_hash, self._template_hash),
                              (session.parameters_hash, self._parameters_hash)):
            if wanted and not compare_digest(wanted, found(tpm, alg)):
                raise TpmError(TPM_RC_POLICY_FAIL)
        if session.nv_written:
            if handle >> 24 != TPM_HT_NV_INDEX:
                raise TpmError(TPM_RC_POLICY_FAIL)
            written = bool(tpm.nv.get(handle).public.attributes & TPMA_NV_WRITTEN)
            if written != (session.nv_written == 2):
                raise TpmError(TPM_RC_POLICY_FAIL)

    def _check_hmac(self, tpm: Tpm, use: Use) -> None:
        session = use.session
        assert session is not None
        key = self._hmac_key(tpm, use)
        if not key and not use.auth:
            return  # Neither a session key nor an authValue: the HMAC is the Empty Buffer.
        extra = b""
        if use.number == 1 and use.entity is not None:
            # The first session also proves the nonces of the sessions that encrypt for it.
            other = self.decrypting
            if other is not None and other is not use and other.session is not None:
                extra = other.session.nonce_tpm
            last = self.encrypting
            if last is not None and last is not use and last is not other and last.session is not None:
                extra += last.session.nonce_tpm
        expected = hashes.hmac(session.auth_hash, key, self.cp_hash(tpm, session.auth_hash), use.nonce_caller,
                               session.nonce_tpm, extra, _U8.pack(use.attributes))
        if not compare_digest(expected, use.auth):
            self._failed(tpm, use)

    def _hmac_key(self, tpm: Tpm, use: Use) -> bytes:
        assert use.session is not None
        key = use.session.session_key
        if use.include_auth and use.entity is not None:
            key += entity.auth_value(tpm, use.entity)
        return key

    def _failed(self, tpm: Tpm, use: Use) -> None:
        """Count a failed authorization where it counts, and raise its code (Part 1, "Dictionary Attack")."""
        session, handle = use.session, use.entity
        lockout = handle == TPM_RH_LOCKOUT
        counted = handle is not None and entity.da_protected(tpm, handle) and use.include_auth
        if session is not None and session.is_da_bound:
            counted, lockout = True, lockout or session.is_lockout_bound
        if not counted:
            raise TpmError(TPM_RC_BAD_AUTH)
        tpm.lockout.failure(lockout)
        raise TpmError(TPM_RC_AUTH_FAIL)

    def cp_hash(self, tpm: Tpm, alg: int) -> bytes:
        """Return cpHash: H(commandCode || Names || parameters) (Part 1, "Command Parameter Hash")."""
        found = self._cp_hashes.get(alg)
        if found is None:
            found = self._cp_hashes[alg] = cp_hash(tpm, alg, self.code, self.handles, self.parameters)
        return found

    def _name_hash(self, tpm: Tpm, alg: int) -> bytes:
        return hashes.digest(alg, *(entity.name(tpm, h) for h in self.handles))

    def _parameters_hash(self, tpm: Tpm, alg: int) -> bytes:
        """Return pHash: cpHash without the Names (Part 3, 23.24)."""
        return hashes.digest(alg, _U32.pack(self.code), self.parameters)

    def _template_hash(self, tpm: Tpm, alg: int) -> bytes:
        """Return the digest of the second sized parameter, which is the template of the Create commands."""
        if self.code not in _TEMPLATE_COMMANDS:
            return b""
        try:
            first = 2 + _U16.unpack_from(self.parameters, 0)[0]
            size = _U16.unpack_from(self.parameters, first)[0]
        except StructError:
            return b""
        return hashes.digest(alg, self.parameters[first + 2 : first + 2 + size])

    def decrypt(self, tpm: Tpm) -> None:
        """Decrypt the first parameter, if a session asks for it (Part 3, 5.7).

        Raises TPM_RC_SIZE with the session's number when the parameter runs past the command.
        """
        use = self.decrypting
        if use is None:
            return
        assert use.session is not None
        if len(self.parameters) < 2:
            raise TpmError(TPM_RC_INSUFFICIENT).session(use.number)
        end = 2 + _U16.unpack_from(self.parameters, 0)[0]
        if end > len(self.parameters):
            raise TpmError(TPM_RC_SIZE).session(use.number)
        sealed = self.parameters[2:end]
        plain = _crypt(tpm, use, use.nonce_caller, use.session.nonce_tpm, sealed, encrypt=False)
        self.parameters = self.parameters[:2] + plain + self.parameters[end:]

    def respond(self, tpm: Tpm, parameters: bytes) -> tuple[bytes, bytes]:
        """Return the response parameters, encrypted if asked for, and the response's authorization area.

        Nonces are rolled, audit digests extended, and sessions without continueSession flushed.
        """
        for use in self.uses:
            session = use.session
            if session is not None:
                session.nonce_tpm = tpm.random(len(session.nonce_tpm))
        if self.encrypting is not None:
            use = self.encrypting
            assert use.session is not None
            end = 2 + _U16.unpack_from(parameters, 0)[0]
            plain = parameters[2:end]
            sealed = _crypt(tpm, use, use.session.nonce_tpm, use.nonce_caller, plain, encrypt=True)
            parameters = parameters[:2] + sealed + parameters[end:]
        if self.audit is not None:
            audited = self.audit
            assert audited.session is not None
            alg = audited.session.auth_hash
            exclusive = tpm.sessions.audit(
                audited.handle, self.cp_hash(tpm, alg), rp_hash(alg, self.code, parameters),
                reset=bool(audited.attributes & TPMA_SESSION_AUDITRESET),
            )
            audited.attributes &= ~TPMA_SESSION_AUDITEXCLUSIVE
            if exclusive:
                audited.attributes |= TPMA_SESSION_AUDITEXCLUSIVE
        else:
            tpm.sessions.exclusive = 0
        area = b""
        for use in self.uses:
            area += self._respond_one(tpm, use, parameters)
        return parameters, area

    def _respond_one(self, tpm: Tpm, use: Use, parameters: bytes) -> bytes:
        session, attributes = use.session, use.attributes
        if session is None:
            # A password is answered with continueSession SET (Part 1, "Password Authorizations").
            return b"\0\0" + _END.pack(attributes | TPMA_SESSION_CONTINUESESSION, 0)
        nonce = session.nonce_tpm
        key = self._hmac_key(tpm, use)
        is_policy = session.kind != TPM_SE_HMAC
        if (is_policy and session.needs_password) or (not key and not use.auth):
            mac = b""
        else:
            alg = session.auth_hash
            mac = hashes.hmac(alg, key, rp_hash(alg, self.code, parameters), nonce, use.nonce_caller,
                              _U8.pack(attributes))
        if not attributes & TPMA_SESSION_CONTINUESESSION:
            tpm.sessions.discard(use.handle)
        elif is_policy:
            session.reset_policy()
            session.start_time, session.epoch = tpm.clock.time_ms(), tpm.clock.epoch
        return _U16.pack(len(nonce)) + nonce + _END.pack(attributes, len(mac)) + mac


def cp_hash(tpm: Tpm, alg: int, code: int, handles: tuple[int, ...], parameters: bytes) -> bytes:
    """Return H(commandCode || Names || parameters) (Part 1, "Command Parameter Hash")."""
    names = b""
    for handle in handles:
        names += entity.name(tpm, handle)
    return hashes.digest(alg, _U32.pack(code) + names + parameters)


def rp_hash(alg: int, code: int, parameters: bytes) -> bytes:
    """Return H(TPM_RC_SUCCESS || commandCode || parameters) (Part 1, "Response Parameter Hash")."""
    return hashes.digest(alg, _RP_START + _U32.pack(code) + parameters)


def _parse_one(buf: bytes, off: int, end: int, number: int) -> tuple[Use, int]:
    """Return the session at *off*; its members may not reach past *end*."""
    try:
        if end - off < _START.size:
            # A handle that is there is judged first.
            known = end - off < 4 or _is_session(_U32.unpack_from(buf, off)[0])
            raise TpmError(TPM_RC_INSUFFICIENT if known else TPM_RC_VALUE)
        handle, n = _START.unpack_from(buf, off)
        if not _is_session(handle):
            raise TpmError(TPM_RC_VALUE)
        if n > _MAX_NONCE:
            raise TpmError(TPM_RC_SIZE)
        nonce_end = off + 6 + n
        if nonce_end >= end:
            raise TpmError(TPM_RC_INSUFFICIENT)
        attributes = buf[nonce_end]
        if attributes & _RESERVED:
            raise TpmError(TPM_RC_RESERVED_BITS)
        start = nonce_end + 3
        if start > end:
            raise TpmError(TPM_RC_INSUFFICIENT)
        (size,) = _U16.unpack_from(buf, nonce_end + 1)
        if size > _MAX_NONCE:
            raise TpmError(TPM_RC_SIZE)
        if start + size > end:
            raise TpmError(TPM_RC_INSUFFICIENT)
    except TpmError as error:
        raise error.session(number) from None
    return Use(number, handle, buf[off + 6 : nonce_end], attributes, buf[start : start + size]), start + size


def _is_session(handle: int) -> bool:
    return (HMAC_SESSION_FIRST <= handle <= HMAC_SESSION_LAST or handle == TPM_RS_PW
            or POLICY_SESSION_FIRST <= handle <= POLICY_SESSION_LAST)


def _crypt(tpm: Tpm, use: Use, newer: bytes, older: bytes, data: bytes, *, encrypt: bool) -> bytes:
    """Return *data* encrypted or decrypted for a session (Part 1, "Session-based Encryption").

    The key is the session key and the authValue of the entity that the session authorizes, if any.
    """
    session = use.session
    assert session is not None
    key = session.session_key
    if use.entity is not None:
        key += entity.auth_value(tpm, use.entity)
    definition = session.symmetric
    if definition.algorithm == TPM_ALG_XOR:
        return kdf.xor_obfuscate(session.auth_hash, key, newer, older, data)
    bits = definition.key_bits or 0
    width = symmetric.block_size(definition.algorithm) * 8
    material = kdf.kdfa(session.auth_hash, key, b"CFB", newer, older, bits + width)
    cipher = symmetric.cfb_encrypt if encrypt else symmetric.cfb_decrypt
    return cipher(definition.algorithm, material[: bits // 8], material[bits // 8 :], data)

"""What the manager asks of a chip, done by a TPM 2.0.

The storage key is a primary of the owner hierarchy, made anew from the chip's seed each time, so nothing of
it is stored; or one that somebody has made persistent, if the manager is told so.  The root key is a sealed
data object below it whose policy is PolicyPCR.  A session salted to the storage key encrypts the root key on
its way and authenticates the value of the counter, so that neither can be read or forged between the manager
and the chip.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

from hwtpm.client import Client, Password, Session
from hwtpm.crypto import ecc, hashes, kdf
from hwtpm.crypto.rsa import DEFAULT_EXPONENT, RsaPublic
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm2.requests.clock import ReadClock
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.nv import (
    NVDefineSpace,
    NVIncrement,
    NVRead,
    NVReadPublic,
    NVUndefineSpace,
    NVWrite,
)
from hwtpm.tpm2.requests.object import Create, Load, ReadPublic, Unseal
from hwtpm.tpm2.requests.pcr import PCRRead
from hwtpm.tpm2.requests.policy import PolicyPCR
from hwtpm.tpm2.types.algorithms import (
    TPMS_ECC_POINT,
    TPMS_SENSITIVE_CREATE,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_KEYEDHASH_SCHEME,
    TPMT_SYM_DEF,
    TPMT_SYM_DEF_OBJECT,
)
from hwtpm.tpm2.types.attributes import (
    TPM_NT_COUNTER,
    TPMA_NV_AUTHREAD,
    TPMA_NV_AUTHWRITE,
    TPMA_NV_NO_DA,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITTEN,
    TPMA_OBJECT_ADMINWITHPOLICY,
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_FIXEDPARENT,
    TPMA_OBJECT_FIXEDTPM,
    TPMA_OBJECT_NODA,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_SENSITIVEDATAORIGIN,
    TPMA_OBJECT_USERWITHAUTH,
    TPMA_SESSION_AUDIT,
    TPMA_SESSION_CONTINUESESSION,
    TPMA_SESSION_DECRYPT,
    TPMA_SESSION_ENCRYPT,
)
from hwtpm.tpm2.types.constants import (
    RC_FMT1,
    TPM_ALG_AES,
    TPM_ALG_CFB,
    TPM_ALG_ECC,
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_ECC_NIST_P256,
    TPM_RC_AUTH_FAIL,
    TPM_RC_BAD_AUTH,
    TPM_RC_HANDLE,
    TPM_RC_POLICY_FAIL,
    TPM_SE_POLICY,
)
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS, TPMS_KEYEDHASH_PARMS, TPMS_RSA_PARMS, TPMT_PUBLIC
from hwtpm.tpm2.types.structures import TPMS_PCR_SELECTION
from hwtpm.wire import Wire, decode, encode
from manager.cfglist import pcr_policy
from manager.model import Platform, SealedKey, pcr_list
from manager.sealing import OtherConfiguration

R = TypeVar("R", bound=Wire)

COUNTER_FIRST: Final = 0x01800000
COUNTER_RANGE: Final = 0x00400000
"""The NV handles that are the owner's to give out (TCG Registry of Reserved TPM 2.0 Handles)."""

_COUNTER_SIZE: Final = 8
_COUNTER_ATTRIBUTES: Final = (
    TPM_NT_COUNTER << TPMA_NV_TPM_NT_SHIFT | TPMA_NV_AUTHWRITE | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA)
_AREA_ATTRIBUTES: Final = TPMA_NV_AUTHWRITE | TPMA_NV_AUTHREAD | TPMA_NV_NO_DA
_CHUNK: Final = 512  # octets of an NV area that travel at once: every TPM has a buffer for that
_NAME_ALG: Final = TPM_ALG_SHA256.to_bytes(2, "big")


def _storage_template() -> TPMT_PUBLIC:
    """Return the template of the storage key: ECC P-256, with AES-128-CFB for its children."""
    return TPMT_PUBLIC(
        TPM_ALG_ECC, TPM_ALG_SHA256,
        TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN
        | TPMA_OBJECT_USERWITHAUTH | TPMA_OBJECT_NODA | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT,
        b"",
        TPMS_ECC_PARMS(TPMT_SYM_DEF_OBJECT(TPM_ALG_AES, 128, TPM_ALG_CFB), TPMT_ECC_SCHEME(TPM_ALG_NULL),
                       TPM_ECC_NIST_P256, TPMT_KDF_SCHEME(TPM_ALG_NULL)),
        TPMS_ECC_POINT(b"", b""))


class Secrets(NamedTuple):
    """The secret of the owner; and the handle of a persistent storage key, with its secret, or 0."""

    owner: bytes = b""
    srk_handle: int = 0
    srk: bytes = b""

    def __repr__(self) -> str:
        return "<secrets>"


class Sealer:
    """A conversation with the chip: a context manager with the storage key loaded and a salted session.

    *parent* is the Name that the storage key has to have, if it is known already.  Entering raises
    StateError, one line for people, if this is another chip; every method raises TpmError, ProtocolError or
    OSError as the client does.  The chip has nothing of it loaded any more after leaving.
    """

    def __init__(self, client: Client, entropy: Callable[[int], bytes], parent: bytes | None,
                 secrets: Secrets) -> None:
        self._client, self._entropy = client, entropy
        self._parent, self._secrets = parent, secrets
        self._loaded: list[int] = []
        self._key = 0
        self._session: Session
        self.name = b""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._flush(suppressed=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._flush(suppressed=error is not None)

    def platform(self, pcrs: bytes) -> Platform:
        """Return the configuration that the machine is in: *pcrs* and the policy of their values."""
        values = hashes.new(TPM_ALG_SHA256)
        wanted = int.from_bytes(pcrs, "little")
        while wanted:  # The chip gives as many at a time as go into one list of digests.
            selection = [TPMS_PCR_SELECTION(TPM_ALG_SHA256, wanted.to_bytes(len(pcrs), "little"))]
            read = self._client.run(PCRRead(selection), self._secured(TPMA_SESSION_AUDIT))
            for value in read.pcr_values:
                values.update(value)
            found = sum(int.from_bytes(each.pcr_select, "little") for each in read.pcr_selection_out)
            if not found or found & ~wanted or found.bit_count() != len(read.pcr_values):
                raise StateError(f"the chip does not have all of the PCRs {pcr_list(pcrs)} with SHA-256")
            wanted &= ~found
        return Platform(pcrs, pcr_policy(pcrs, values.digest()))

    def seal(self, secret: bytes, platform: Platform) -> SealedKey:
        """Return *secret*, at most 128 octets, sealed to *platform*."""
        template = TPMT_PUBLIC(
            TPM_ALG_KEYEDHASH, TPM_ALG_SHA256,
            TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_NODA,
            platform.digest, TPMS_KEYEDHASH_PARMS(TPMT_KEYEDHASH_SCHEME(TPM_ALG_NULL)), b"")
        try:
            created = self._client.run(
                Create(self._key, TPMS_SENSITIVE_CREATE(b"", secret), template, b"", []),
                self._secured(TPMA_SESSION_DECRYPT, self._secrets.srk))
        except TpmError as error:
            raise _wrong_secret(error) or error from None
        return SealedKey(self.name, platform.pcrs, platform.digest, encode(created.out_public),
                         created.out_private)

    def unseal(self, sealed: SealedKey) -> bytes:
        """Return what was sealed, as `Conversation` says."""
        before = len(self._loaded)
        try:
            public = decode(TPMT_PUBLIC, sealed.public)
            loaded = self._client.run(Load(self._key, sealed.private, public),
                                      self._secured(0, self._secrets.srk))
        except TpmError as error:
            raise _wrong_secret(error) or StateError(
                f"damaged: the chip does not load a sealed key ({error})") from None
        self._loaded.append(loaded.object_handle)
        self._client.names[loaded.object_handle] = loaded.name
        policy = self._client.start_session(TPM_SE_POLICY)
        self._loaded.append(policy.handle)
        try:
            self._client.run(PolicyPCR(policy.handle, b"", _selection(sealed.pcrs)))
            unsealed = self._client.run(
                Unseal(loaded.object_handle), policy, self._secured(TPMA_SESSION_ENCRYPT))
        except TpmError as error:
            if base_code(error) != TPM_RC_POLICY_FAIL:
                raise
            # The chip has room for few objects, and there may be more keys to try.
            self._flush(suppressed=True, down_to=before)
            raise OtherConfiguration(sealed.pcrs) from None
        self._flush(suppressed=False, down_to=before)
        return unsealed.out_data

    def boot(self) -> bytes:
        """Return the counts of resets and restarts (Part 1, 36.1), authenticated."""
        clock = self._client.run(ReadClock(), self._secured(TPMA_SESSION_AUDIT)).current_time.clock_info
        return clock.reset_count.to_bytes(4, "big") + clock.restart_count.to_bytes(4, "big")

    def counter(self, number: int, auth: bytes) -> int:
        """Return the value of the counter at NV handle *number*, authenticated; StateError without one."""
        self._client.names[number] = _counter_name(number, _COUNTER_ATTRIBUTES | TPMA_NV_WRITTEN)
        try:
            found = self._client.run(
                NVRead(number, number, _COUNTER_SIZE, 0), self._secured(0, auth)).data
        except TpmError as error:
            if base_code(error) != TPM_RC_HANDLE:
                raise
            raise StateError(f"the chip has no counter at NV handle 0x{number:08x}; put the chip's NV back "
                             f"that belongs to this store") from None
        return int.from_bytes(found, "big")

    def define_counter(self, number: int, auth: bytes) -> None:
        """A new counter is at the free handle, higher than any before it (Part 3, 31.8)."""
        self._client.run(NVDefineSpace(TPM_RH_OWNER, auth, _counter_public(number, _COUNTER_ATTRIBUTES)),
                         self._secured(TPMA_SESSION_DECRYPT, self._secrets.owner))
        self._client.names[number] = _counter_name(number, _COUNTER_ATTRIBUTES)
        self._client.run(NVIncrement(number, number), self._secured(0, auth))

    def undefine_counter(self, number: int) -> None:
        """The NV Index is gone."""
        self._undefine(number)

    def define_area(self, index: int, size: int, auth: bytes) -> None:
        """There is a new NV area full of 0xFF, as a TPM 1.2 makes it; one that was there is gone."""
        try:
            self._undefine(index)
        except TpmError as error:
            if base_code(error) != TPM_RC_HANDLE or not size:
                raise
        if size:
            public = TPMS_NV_PUBLIC(index, TPM_ALG_SHA256, _AREA_ATTRIBUTES, b"", size)
            session = self._secured(TPMA_SESSION_DECRYPT, self._secrets.owner)
            self._client.run(NVDefineSpace(TPM_RH_OWNER, auth, public), session)
            self.write_area(index, 0, auth, b"\xff" * size)

    def write_area(self, index: int, offset: int, auth: bytes, data: bytes) -> None:
        """The area has the data."""
        for at in range(0, len(data), _CHUNK):
            # Its name says whether it was written before.
            self._client.names[index] = self._client.run(NVReadPublic(index)).nv_name
            self._client.run(NVWrite(index, index, data[at : at + _CHUNK], offset + at),
                             self._secured(TPMA_SESSION_DECRYPT, auth))

    def read_area(self, index: int, offset: int, auth: bytes, size: int) -> bytes:
        """Return the data of the area."""
        self._client.names[index] = self._client.run(NVReadPublic(index)).nv_name
        return b"".join(
            self._client.run(NVRead(index, index, min(_CHUNK, size - at), offset + at),
                             self._secured(TPMA_SESSION_ENCRYPT, auth)).data
            for at in range(0, size, _CHUNK))

    def _undefine(self, index: int) -> None:
        self._client.names[index] = self._client.run(NVReadPublic(index)).nv_name
        self._client.run(NVUndefineSpace(TPM_RH_OWNER, index), self._secured(0, self._secrets.owner))

    def _start(self) -> None:
        public = self._storage_key()
        self.name = _name(public)
        if self._parent is not None and self._parent != self.name:
            raise StateError("the root key is sealed to another chip, or this chip was cleared; put the "
                             "chip's NV back that belongs to this store")
        self._client.names[self._key] = self.name
        salt, encrypted = self._salt(public)
        self._session = self._client.start_session(
            symmetric_definition=TPMT_SYM_DEF(TPM_ALG_AES, 128, TPM_ALG_CFB), tpm_key=self._key, salt=salt,
            encrypted_salt=encrypted)
        self._loaded.append(self._session.handle)

    def _storage_key(self) -> TPMT_PUBLIC:
        """Return the public area of the storage key, which is there now."""
        if handle := self._secrets.srk_handle:
            try:
                found = self._client.run(ReadPublic(handle)).out_public
            except TpmError as error:
                if base_code(error) != TPM_RC_HANDLE:
                    raise
                raise StateError(f"the chip has no key at srk_handle 0x{handle:08x}") from None
            self._key = handle
            return found
        request = CreatePrimary(TPM_RH_OWNER, TPMS_SENSITIVE_CREATE(b"", b""), _storage_template(), b"", [])
        try:
            created = _proved(self._client, request, self._secrets.owner)
        except TpmError as error:
            if base_code(error) != TPM_RC_BAD_AUTH:
                raise
            raise StateError("the chip has an owner password; set owner_auth, or remove it "
                             "(tpm2_changeauth -c owner)") from None
        self._key = created.object_handle
        self._loaded.append(self._key)
        return created.out_public

    def _salt(self, public: TPMT_PUBLIC) -> tuple[bytes, bytes]:
        """Return a new salt, and how it travels to the storage key (Part 1, 19.6.13 and annexes B and C)."""
        parameters, unique = public.parameters, public.unique
        if isinstance(parameters, TPMS_RSA_PARMS) and isinstance(unique, bytes):
            salt = self._entropy(hashes.size(public.name_alg))
            key = RsaPublic(unique, parameters.exponent or DEFAULT_EXPONENT)
            return salt, key.encrypt_oaep(public.name_alg, b"SECRET\0", salt)
        if isinstance(parameters, TPMS_ECC_PARMS) and isinstance(unique, TPMS_ECC_POINT):
            # It is shared by ECDH with a key used once.
            curve = ecc.curve(parameters.curve_id)
            ours = ecc.EccPrivate(curve.id, ecc.scalar_from(curve.id, self._entropy(curve.scalar_seed_size)))
            x, y = ours.public
            salt = kdf.kdfe(public.name_alg, ours.shared_x(unique.x, unique.y), b"SECRET", x,
                            unique.x.rjust(curve.field_size, b"\0"), 8 * hashes.size(public.name_alg))
            return salt, encode(TPMS_ECC_POINT(x, y))
        raise StateError("the chip's storage key is neither an RSA nor an ECC key")

    def _secured(self, attributes: int, auth: bytes = b"") -> Session:
        """Return the salted session for the next command, where it stands for what has the secret *auth*."""
        self._session.attributes = TPMA_SESSION_CONTINUESESSION | attributes
        self._session.auth = auth
        return self._session

    def _flush(self, suppressed: bool, down_to: int = 0) -> None:
        while len(self._loaded) > down_to:
            handle = self._loaded.pop()
            self._client.names.pop(handle, None)
            # When something else went wrong before, that is what the caller has to hear of.
            with suppress(*(TpmError, ProtocolError, OSError) if suppressed else ()):
                self._client.run(FlushContext(handle))


class Chip20:
    """A chip with TPM 2.0 at the other end of *client*; the numbers of its counters are NV handles."""

    family = "2.0"

    def __init__(self, client: Client, entropy: Callable[[int], bytes],
                 secrets: Secrets | None = None) -> None:
        self._client, self._entropy = client, entropy
        self._secrets = secrets or Secrets()

    def conversation(self, parent: bytes | None) -> Sealer:
        """Return a conversation with the chip whose storage key has the Name *parent*, if that is known."""
        return Sealer(self._client, self._entropy, parent, self._secrets)

    def transmit(self, command: bytes) -> bytes:
        """Return the response octets to the octets of *command*."""
        return self._client.transmit(command)

    def new_counter(self) -> int:
        """Return a free handle out of those that are the owner's to give out."""
        while True:
            index = COUNTER_FIRST + int.from_bytes(self._entropy(4), "big") % COUNTER_RANGE
            if not self.has_counter(index):
                return index

    def new_area(self) -> int:
        """Return a free handle, as `new_counter` does."""
        return self.new_counter()

    def has_area(self, number: int) -> bool:
        """Tell whether there is an NV Index with that handle."""
        return self.has_counter(number)

    def has_counter(self, number: int) -> bool:
        """Tell whether there is an NV Index with that handle."""
        try:
            self._client.run(NVReadPublic(number))
        except TpmError as error:
            if base_code(error) != TPM_RC_HANDLE:
                raise
            return False
        return True

    def increment(self, number: int, auth: bytes) -> None:
        """The counter is one higher, durably; ProtocolError if it is not the chip that says so.

        *auth* is the key of both HMACs and does not cross.  It is as long as the key that a salt would give,
        so a session without one, which costs the chip next to nothing, is as good.
        """
        self._client.names[number] = _counter_name(number, _COUNTER_ATTRIBUTES | TPMA_NV_WRITTEN)
        _proved(self._client, NVIncrement(number, number), auth)


def _proved(client: Client, request: Command[R], auth: bytes) -> R:
    """Return the response to *request*, which whoever gave it has shown to know *auth*, as the request does.

    ProtocolError if he has not.
    """
    if not auth:
        return client.run(request, Password())  # A session would have nothing to show.
    session = client.start_session()
    session.attributes, session.auth = 0, auth  # It ends with the command.
    try:
        return client.run(request, session)
    except BaseException:
        # A command that was refused, or has not arrived, does not end it.
        with suppress(TpmError, ProtocolError, StateError, OSError):
            client.run(FlushContext(session.handle))
        raise


def _counter_public(index: int, attributes: int) -> TPMS_NV_PUBLIC:
    return TPMS_NV_PUBLIC(index, TPM_ALG_SHA256, attributes, b"", _COUNTER_SIZE)


def _counter_name(index: int, attributes: int) -> bytes:
    """Return the Name of a counter, which says whether it was written (Part 1, 14)."""
    return _NAME_ALG + hashes.digest(TPM_ALG_SHA256, encode(_counter_public(index, attributes)))


def _name(public: TPMT_PUBLIC) -> bytes:
    """Return the Name of an object (Part 1, 14)."""
    return public.name_alg.to_bytes(2, "big") + hashes.digest(public.name_alg, encode(public))


def _wrong_secret(error: TpmError) -> StateError | None:
    """Return what to tell if *error* says that the storage key has another secret."""
    if base_code(error) not in (TPM_RC_BAD_AUTH, TPM_RC_AUTH_FAIL):
        return None
    return StateError("the chip's storage key at srk_handle has another secret than srk_auth says")


def _selection(pcrs: bytes) -> list[TPMS_PCR_SELECTION]:
    return [TPMS_PCR_SELECTION(TPM_ALG_SHA256, pcrs)]


def base_code(error: TpmError) -> int:
    """Return the response code without the number of the handle, session or parameter (Part 2, 6.6.2)."""
    return error.rc & 0xBF if error.rc & RC_FMT1 else error.rc

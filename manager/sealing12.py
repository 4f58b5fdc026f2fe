"""What the manager asks of a chip, done by a TPM 1.2.

The manager is the chip's owner.  Unless it is told otherwise, owner and SRK have the well-known secret of 20
zero octets, so that nothing depends on a password, as nothing does with a TPM 2.0 without owner
authorization.  The root key is sealed to PCRs and to the locality it was sealed from.  A transport session
whose secret is encrypted under the SRK hides the root key on its way and authenticates the value of the
counter, so that neither can be read or forged between the manager and the chip.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, NamedTuple, Self

from hwtpm.client12 import Client, Session, Transport
from hwtpm.crypto import hashes, ids
from hwtpm.crypto.errors import CryptoError
from hwtpm.crypto.rsa import RsaPublic
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.context import FlushSpecific
from hwtpm.tpm12.requests.counter import CreateCounter, IncrementCounter, ReadCounter, ReleaseCounterOwner
from hwtpm.tpm12.requests.endorsement import OwnerReadInternalPub, ReadPubek
from hwtpm.tpm12.requests.integrity import PcrRead
from hwtpm.tpm12.requests.nv import NVDefineSpace, NVReadValueAuth, NVWriteValueAuth
from hwtpm.tpm12.requests.ownership import TakeOwnership
from hwtpm.tpm12.requests.storage import Seal, Unseal
from hwtpm.tpm12.requests.ticks import GetTicks
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_COUNTER,
    TPM_BAD_LOCALITY,
    TPM_BAD_PARAM_SIZE,
    TPM_BADINDEX,
    TPM_DEACTIVATED,
    TPM_DISABLED,
    TPM_NO_ENDORSEMENT,
    TPM_NOSRK,
    TPM_WRONGPCRVAL,
)
from hwtpm.tpm12.types.constants import (
    TPM_ALG_AES128,
    TPM_ALG_RSA,
    TPM_AUTH_ALWAYS,
    TPM_CAP_NV_LIST,
    TPM_ES_RSAESOAEP_SHA1_MGF1,
    TPM_ES_SYM_CTR,
    TPM_ET_KEYHANDLE,
    TPM_ET_OWNER,
    TPM_KEY_STORAGE,
    TPM_KH_OWNER,
    TPM_KH_SRK,
    TPM_NV_PER_AUTHREAD,
    TPM_NV_PER_AUTHWRITE,
    TPM_PID_OWNER,
    TPM_RT_AUTH,
    TPM_RT_TRANS,
    TPM_SS_NONE,
    TPM_TRANSPORT_ENCRYPT,
)
from hwtpm.tpm12.types.key import TPM_KEY, TPM_KEY_PARMS, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.pcr import (
    TPM_LOC_ALL,
    TPM_PCR_INFO_LONG,
    TPM_PCR_INFO_SHORT,
    TPM_PCR_SELECTION,
)
from hwtpm.tpm12.types.storage import TPM_STORED_DATA
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_AUTH, TPM_TRANSPORT_PUBLIC
from hwtpm.wire import decode, encode
from manager.cfglist import platform_hash, selected
from manager.model import Platform, SealedKey
from manager.sealing import OtherConfiguration

_WELL_KNOWN: Final = bytes(20)
_OAEP_LABEL: Final = b"TCPA"
_ENCRYPTING: Final = TPM_TRANSPORT_PUBLIC(TPM_TRANSPORT_ENCRYPT, TPM_ALG_AES128, TPM_ES_SYM_CTR)
_STRUCT_VER: Final = 0x0101  # a TPM_KEY begins with TPM_STRUCT_VER 1.1
_ANOTHER: Final = ("the root key is sealed to another chip, or this chip was cleared; put the chip's NV back "
                   "that belongs to this store")
_NO_PCRS: Final = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), TPM_LOC_ALL, bytes(20))
_SPECIAL: Final = (0, 0xFFFFFFFF)  # What is written to these locks NV memory (Part 2, 19.1).
_AREA_FIRST: Final = 0x00040000
"""The NV areas for servers, of which the manager takes one (Part 2, 19.1)."""
_COUNTERS: Final = 16  # more than any chip has


class Secrets(NamedTuple):
    """The secrets of the owner and of the SRK, 20 octets each."""

    owner: bytes = _WELL_KNOWN
    srk: bytes = _WELL_KNOWN

    def __repr__(self) -> str:
        return "<secrets>"


class Conversation12:
    """A conversation with the chip: a context manager with an encrypting transport session.

    *parent* is the digest of the SRK's public part, if it is known already; without one, a chip without an
    owner gets one, with these *secrets*.  *locality* is the one that commands come from.
    """

    def __init__(self, client: Client, entropy: Callable[[int], bytes], locality: int,
                 parent: bytes | None, secrets: Secrets) -> None:
        self._client, self._entropy, self._locality = client, entropy, locality
        self._parent, self._secrets = parent, secrets
        self._inside: Transport
        self.name = b""

    def __enter__(self) -> Self:
        public = self._storage_root()
        self.name = hashes.digest(ids.SHA256, encode(public))
        if self._parent is not None and self._parent != self.name:
            raise StateError(_ANOTHER)
        secret = self._entropy(20)
        try:
            self._inside = self._client.establish(
                _ENCRYPTING, secret, TPM_KH_SRK, _encrypt(public, encode(TPM_TRANSPORT_AUTH(secret))),
                once(self._client.oiap(self._secrets.srk)))
        except TpmError as error:
            if error.rc != TPM_AUTHFAIL:
                raise
            raise StateError("the chip's storage root key has another secret than srk_auth says") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        # When something else went wrong before, that is what the caller has to hear of.
        with suppress(*(TpmError, ProtocolError, OSError) if error is not None else ()):
            self._client.run(FlushSpecific(self._inside.handle, TPM_RT_TRANS))

    def platform(self, pcrs: bytes) -> Platform:
        """Return the configuration that the machine is in: *pcrs* and their TPM_COMPOSITE_HASH."""
        values = b"".join(self._inside.run(PcrRead(number)).out_digest for number in selected(pcrs))
        return Platform(pcrs, platform_hash("1.2", pcrs, values))

    def seal(self, secret: bytes, platform: Platform) -> SealedKey:
        """Return *secret* sealed to *platform* and to the locality."""
        selection = TPM_PCR_SELECTION(platform.pcrs)
        locality = 1 << self._locality
        info = TPM_PCR_INFO_LONG(locality, locality, selection, selection, bytes(20), platform.digest)
        session = self._inside.osap(TPM_ET_KEYHANDLE, TPM_KH_SRK, self._secrets.srk)
        sealed = self._inside.run(
            Seal(TPM_KH_SRK, session.encrypt(_WELL_KNOWN), encode(info), secret), once(session)).sealed_data
        return SealedKey(self.name, platform.pcrs, platform.digest, b"", encode(sealed))

    def unseal(self, sealed: SealedKey) -> bytes:
        """Return what was sealed, as `Conversation` says."""
        try:
            data = decode(TPM_STORED_DATA, sealed.private)
            return self._inside.run(
                Unseal(TPM_KH_SRK, data), once(self._inside.oiap(self._secrets.srk)),
                once(self._inside.oiap(_WELL_KNOWN))).secret
        except TpmError as error:
            if error.rc == TPM_WRONGPCRVAL:
                raise OtherConfiguration(sealed.pcrs) from None
            if error.rc == TPM_BAD_LOCALITY:
                raise StateError("the chip does not unseal a key to this locality") from None
            raise StateError(f"damaged: the chip does not unseal a key ({error})") from None

    def boot(self) -> bytes:
        """Return the nonce of the tick session, which begins with power (Part 1, 20)."""
        return self._inside.run(GetTicks()).current_time.tick_nonce

    def counter(self, number: int, auth: bytes) -> int:
        """Return the value of the counter *number*, authenticated; StateError without one."""
        found = _find(self._inside, number)
        if found is None:
            raise StateError(f"the chip has no counter labelled {number:08x}; put the chip's NV back that "
                             f"belongs to this store")
        return found[1]

    def define_counter(self, number: int, auth: bytes) -> None:
        """There is a new counter, higher than any that the chip had (Part 3, 25.1).

        Its secret is encrypted by the owner's, which everybody may know, and by the transport session.
        """
        owner = once(self._inside.osap(TPM_ET_OWNER, TPM_KH_OWNER, self._secrets.owner))
        self._inside.run(CreateCounter(owner.encrypt(_secret(auth)), number.to_bytes(4, "big")), owner)

    def undefine_counter(self, number: int) -> None:
        """The counter is gone; TPM_BAD_COUNTER without one."""
        found = _find(self._inside, number)
        if found is None:
            raise TpmError(TPM_BAD_COUNTER)
        self._inside.run(ReleaseCounterOwner(found[0]), once(self._inside.oiap(self._secrets.owner)))

    def define_area(self, index: int, size: int, auth: bytes) -> None:
        """There is a new NV area; TPM_BADINDEX for the numbers that lock NV memory."""
        if index in _SPECIAL:
            raise TpmError(TPM_BADINDEX)
        owner = once(self._inside.osap(TPM_ET_OWNER, TPM_KH_OWNER, self._secrets.owner))
        public = TPM_NV_DATA_PUBLIC(index, _NO_PCRS, _NO_PCRS, TPM_NV_ATTRIBUTES(
            TPM_NV_PER_AUTHREAD | TPM_NV_PER_AUTHWRITE), 0, 0, 0, size)
        try:
            self._inside.run(NVDefineSpace(public, owner.encrypt(auth)), owner)
        except TpmError as error:
            # An area of no octets can be defined no more than one can be deleted that is not there.
            if error.rc != TPM_BAD_PARAM_SIZE or size:
                raise
            raise TpmError(TPM_BADINDEX) from None

    def write_area(self, index: int, offset: int, auth: bytes, data: bytes) -> None:
        """The area has the data."""
        if index in _SPECIAL:
            raise TpmError(TPM_BADINDEX)
        self._inside.run(NVWriteValueAuth(index, offset, data), once(self._inside.oiap(auth)))

    def read_area(self, index: int, offset: int, auth: bytes, size: int) -> bytes:
        """Return the data of the area."""
        return self._inside.run(NVReadValueAuth(index, offset, size), once(self._inside.oiap(auth))).data

    def _storage_root(self) -> TPM_PUBKEY:
        """Return the SRK's public part."""
        session = once(self._client.oiap(self._secrets.owner))
        try:
            return self._client.run(OwnerReadInternalPub(TPM_KH_SRK), session).public_portion
        except TpmError as error:
            if error.rc == TPM_AUTHFAIL:
                raise StateError("the chip has an owner with a password; set owner_auth, or make it the "
                                 "well-known secret (tpm_changeownerauth), or clear the chip") from None
            # A command that has come too early does not end its session.
            with suppress(TpmError):
                self._client.run(FlushSpecific(session.handle, TPM_RT_AUTH))
            if error.rc in (TPM_DISABLED, TPM_DEACTIVATED):
                raise StateError("the chip is disabled or deactivated, as it is after it was cleared; make "
                                 "it usable again (tpm_setenable, tpm_setactive)") from None
            if error.rc != TPM_NOSRK:
                raise
            if self._parent is not None:
                raise StateError(_ANOTHER) from None
        return self._take_ownership()

    def _take_ownership(self) -> TPM_PUBKEY:
        try:
            endorsement = self._client.run(ReadPubek(self._entropy(20))).pub_endorsement_key
        except TpmError as error:
            if error.rc != TPM_NO_ENDORSEMENT:
                raise
            raise StateError("the chip has no endorsement key, so nobody can own it; make one "
                             "(tpm_createek)") from None
        parms = TPM_KEY_PARMS(TPM_ALG_RSA, TPM_ES_RSAESOAEP_SHA1_MGF1, TPM_SS_NONE,
                              encode(TPM_RSA_KEY_PARMS(2048, 2, b"")))
        template = TPM_KEY(_STRUCT_VER, 0, TPM_KEY_STORAGE, 0, TPM_AUTH_ALWAYS, parms, b"", b"", b"")
        owner, srk = _encrypt(endorsement, self._secrets.owner), _encrypt(endorsement, self._secrets.srk)
        made = self._client.run(TakeOwnership(TPM_PID_OWNER, owner, srk, template),
                                once(self._client.oiap(self._secrets.owner))).srk_pub
        return TPM_PUBKEY(made.algorithm_parms, made.pub_key)


class Chip12:
    """A chip with TPM 1.2 at the other end of *client*, whose commands come from *locality*.

    The number of a counter is its label; the chip gives it a handle of its own.
    """

    family = "1.2"

    def __init__(self, client: Client, entropy: Callable[[int], bytes], locality: int,
                 secrets: Secrets | None = None) -> None:
        self._client, self._entropy, self._locality = client, entropy, locality
        self._secrets = secrets or Secrets()
        self._handles: dict[int, int] = {}  # of counters that were looked for, by label

    def conversation(self, parent: bytes | None) -> Conversation12:
        """Return a conversation with the chip whose SRK has the digest *parent*, if that is known."""
        return Conversation12(self._client, self._entropy, self._locality, parent, self._secrets)

    def transmit(self, command: bytes) -> bytes:
        """Return the response octets to the octets of *command*."""
        return self._client.transmit(command)

    def new_counter(self) -> int:
        """Return a label that no counter has."""
        while True:
            number = int.from_bytes(self._entropy(4), "big")
            if not self.has_counter(number):
                return number

    def new_area(self) -> int:
        """Return a number that no NV area has."""
        while True:
            number = _AREA_FIRST + int.from_bytes(self._entropy(2), "big")
            if not self.has_area(number):
                return number

    def has_area(self, number: int) -> bool:
        """Tell whether there is an NV area with that number."""
        asked = GetCapability(TPM_CAP_NV_LIST, b"")
        found = self._client.run(asked).resp
        return number.to_bytes(4, "big") in (found[at : at + 4] for at in range(0, len(found), 4))

    def has_counter(self, number: int) -> bool:
        """Tell whether there is a counter with that label."""
        return _find(self._client, number) is not None

    def increment(self, number: int, auth: bytes) -> None:
        """The counter is one higher, durably; ProtocolError if it is not the chip that says so.

        The chip counts one counter for each time it has power.
        """
        handle = self._handle(number)
        session = once(self._client.oiap(_secret(auth)))
        try:
            self._client.run(IncrementCounter(handle), session)
        except BaseException:
            # A command that has not arrived does not end it.
            with suppress(TpmError, ProtocolError, StateError, OSError):
                self._client.run(FlushSpecific(session.handle, TPM_RT_AUTH))
            raise

    def _handle(self, number: int) -> int:
        if number not in self._handles:
            found = _find(self._client, number)
            if found is None:
                raise TpmError(TPM_BAD_COUNTER)
            self._handles[number] = found[0]
        return self._handles[number]


def _find(client: Client, number: int) -> tuple[int, int] | None:
    """Return handle and value of the counter with that label, None without one."""
    for handle in range(_COUNTERS):
        try:
            value = client.run(ReadCounter(handle)).counter_value
        except TpmError as error:
            if error.rc != TPM_BAD_COUNTER:
                raise
            continue
        if value.label == number.to_bytes(4, "big"):
            return handle, value.counter
    return None


def _secret(auth: bytes) -> bytes:
    """Return a counter's secret as one of this family: 20 octets."""
    return hashes.digest(ids.SHA256, auth)[:20]


def _encrypt(public: TPM_PUBKEY, message: bytes) -> bytes:
    try:
        return RsaPublic(public.pub_key).encrypt_oaep(ids.SHA1, _OAEP_LABEL, message)
    except CryptoError as error:
        raise ProtocolError(f"a key of the chip that cannot be used: {error}") from None


def once(session: Session) -> Session:
    """Return *session*, which ends with its next command."""
    session.continues = False
    return session

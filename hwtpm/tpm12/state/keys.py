"""Keys that are loaded, and the SRK and EK (Part 1, 4.6; Part 2, 5.10 and 10)."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha1
from typing import Annotated, ClassVar, Final

from hwtpm.crypto.errors import BadKey
from hwtpm.crypto.random import Random
from hwtpm.crypto.rsa import RsaPrivate
from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import DEFAULT_EXPONENT, KEY_HANDLES
from hwtpm.tpm12.state.handles import new_handle
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import SECRET_SIZED, TPM_BOOL, TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_INVALID_KEYHANDLE, TPM_NOSPACE
from hwtpm.tpm12.types.constants import TPM_KEY_CONTROL_OWNER_EVICT, TPM_TAG_KEY12
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY, TPM_RSA_KEY_PARMS
from hwtpm.tpm12.types.pcr import TPM_LOC_ALL, TPM_PCR_INFO, TPM_PCR_INFO_LONG, TPM_PCR_INFO_SHORT
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class Key:
    """A key with its private part.

    *public* is a TPM_KEY whose enc_data is not used.  *payload* (TPM_PT), *usage_auth* and *migration_auth*
    are those of TPM_STORE_ASYMKEY, *prime* is the private part.  Raises TpmError when the parameters in
    *public* are no TPM_RSA_KEY_PARMS or PCR information, BadKey when modulus and prime do not belong
    together.
    """

    def __init__(self, public: TPM_KEY, payload: int, usage_auth: bytes, migration_auth: bytes,
                 prime: bytes) -> None:
        self.public, self.payload = public, payload
        self.usage_auth, self.migration_auth, self.prime = usage_auth, migration_auth, prime
        self.parms = decode(TPM_RSA_KEY_PARMS, public.algorithm_parms.parms)
        self.rsa = RsaPrivate(public.pub_key, prime, exponent_of(self.parms))
        self.pcr_info = pcr_info_of(public)

    def __repr__(self) -> str:
        return f"<Key of usage 0x{self.public.key_usage:04x}>"

    @cached_property
    def pub_data_digest(self) -> bytes:
        """The digest of the public part, which also names the key in an OSAP session (Part 2, 10.6)."""
        return pub_data_digest(self.public)

    @property
    def release(self) -> TPM_PCR_INFO_SHORT | None:
        """What the use of the key depends on; None for nothing."""
        info = self.pcr_info
        if isinstance(info, TPM_PCR_INFO_LONG):
            return TPM_PCR_INFO_SHORT(info.release_pcr_selection, info.locality_at_release,
                                      info.digest_at_release)
        if info is not None:
            return TPM_PCR_INFO_SHORT(info.pcr_selection, TPM_LOC_ALL, info.digest_at_release)
        return None

    @property
    def uses_pcrs(self) -> bool:
        """Whether the use of the key depends on any PCR."""
        release = self.release
        return release is not None and any(release.pcr_selection.pcr_select)

    @property
    def pubkey(self) -> TPM_PUBKEY:
        """The TPM_PUBKEY of the key."""
        return TPM_PUBKEY(self.public.algorithm_parms, self.public.pub_key)


def exponent_of(parms: TPM_RSA_KEY_PARMS) -> int:
    """Return the public exponent; an empty one stands for 65537 (Part 2, 10.1.1)."""
    return int.from_bytes(parms.exponent, "big") if parms.exponent else DEFAULT_EXPONENT


def pcr_info_of(public: TPM_KEY) -> TPM_PCR_INFO | TPM_PCR_INFO_LONG | None:
    """Return what the key is bound to; None for nothing.  TpmError if that cannot be decoded."""
    if not public.pcr_info:
        return None
    if public.tag == TPM_TAG_KEY12:
        return decode(TPM_PCR_INFO_LONG, public.pcr_info)
    return decode(TPM_PCR_INFO, public.pcr_info)


def pub_data_digest(public: TPM_KEY) -> bytes:
    """Return the digest of *public* without encDataSize and encData (Part 2, 10.6)."""
    # An empty enc_data is only its size, four octets at the end.
    bare = TPM_KEY(public.tag, public.fill, public.key_usage, public.key_flags, public.auth_data_usage,
                   public.algorithm_parms, public.pcr_info, public.pub_key, b"")
    return sha1(encode(bare)[:-4]).digest()


class StoredKey(Wire):
    """The form in which a key is kept."""

    public: TPM_KEY
    payload: UINT8
    usage_auth: TPM_SECRET
    migration_auth: TPM_SECRET
    prime: SECRET_SIZED

    @classmethod
    def of(cls, key: Key) -> StoredKey:
        """Return the stored form of *key*."""
        return cls(key.public, key.payload, key.usage_auth, key.migration_auth, key.prime)

    def key(self) -> Key:
        """Return the key; TpmError or ValueError when this is not the stored form of one."""
        try:
            return Key(self.public, self.payload, self.usage_auth, self.migration_auth, self.prime)
        except BadKey as error:
            raise ValueError(str(error)) from None


class LoadedKey:
    """A key that has a handle.  `parent_pcr_status` tells whether the parent is bound to PCRs."""

    __slots__ = ("control", "handle", "key", "parent_pcr_status")

    def __init__(self, handle: int, key: Key, parent_pcr_status: bool, control: int = 0) -> None:
        self.handle, self.key = handle, key
        self.parent_pcr_status, self.control = parent_pcr_status, control

    @property
    def owner_evict(self) -> bool:
        """Whether the key is kept until the owner evicts it (TPM_KeyControlOwner)."""
        return bool(self.control & TPM_KEY_CONTROL_OWNER_EVICT)


class KeyEntry(Wire):
    """The form in which a loaded key is kept."""

    handle: UINT32
    parent_pcr_status: TPM_BOOL
    control: UINT32
    key: StoredKey

    @classmethod
    def of(cls, entry: LoadedKey) -> KeyEntry:
        """Return the stored form of *entry*."""
        return cls(entry.handle, entry.parent_pcr_status, entry.control, StoredKey.of(entry.key))


class _Entries(Wire):
    version: UINT8
    keys: Annotated[list[KeyEntry], ListOf(KEY_HANDLES)]


class Keys(Owner):
    """The loaded keys, by handle; those under the owner's control are permanent."""

    TAG: ClassVar[bytes] = b"keys"

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.loaded: dict[int, LoadedKey] = {}

    def require_space(self) -> None:
        """Raise TPM_NOSPACE unless another key can be loaded."""
        if len(self.loaded) >= KEY_HANDLES:
            raise TpmError(TPM_NOSPACE)

    def add(self, key: Key, parent_pcr_status: bool, wanted: int = 0) -> LoadedKey:
        """Return *key*, loaded under handle *wanted* if that is free, else under a new one; TPM_NOSPACE."""
        self.require_space()
        handle = wanted if wanted and wanted not in self.loaded else new_handle(self._random, self.loaded)
        entry = self.loaded[handle] = LoadedKey(handle, key, parent_pcr_status)
        return entry

    def get(self, handle: int) -> LoadedKey:
        """Return the loaded key; TPM_INVALID_KEYHANDLE if there is none."""
        entry = self.loaded.get(handle)
        if entry is None:
            raise TpmError(TPM_INVALID_KEYHANDLE)
        return entry

    def evict(self, handle: int) -> None:
        """The key is not loaded any more."""
        entry = self.loaded.pop(handle)
        if entry.owner_evict:
            self.touch()

    def control(self, entry: LoadedKey, control: int) -> None:
        """The TPM_KEY_CONTROL of the loaded key *entry* is *control*."""
        if entry.control != control:
            entry.control = control
            self.touch()

    def owner_clear(self, *, revoke: bool = False) -> None:
        """No key is loaded, not even those under the owner's control."""
        if any(entry.owner_evict for entry in self.loaded.values()):
            self.touch()
        self.loaded.clear()

    def startup(self, start: Start) -> None:
        """Loaded keys stay with a resumed state; else only the owner's."""
        if start is not Start.STATE:
            self.loaded = {handle: entry for handle, entry in self.loaded.items() if entry.owner_evict}

    def save(self) -> bytes:
        """Return version and the keys under the owner's control."""
        return self._encode(owner_evict=True)

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; other keys stay."""
        kept = {h: entry for h, entry in self.loaded.items() if not entry.owner_evict}
        self.loaded = self._decode(state) | kept

    def save_volatile(self) -> bytes:
        """Return version and the keys that are not under the owner's control."""
        return self._encode(owner_evict=False)

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        kept = {h: entry for h, entry in self.loaded.items() if entry.owner_evict}
        self.loaded = self._decode(state) | kept

    def _encode(self, *, owner_evict: bool) -> bytes:
        return encode(_Entries(_FORMAT, [
            KeyEntry.of(entry) for _, entry in sorted(self.loaded.items()) if entry.owner_evict is owner_evict
        ]))

    def _decode(self, state: bytes) -> dict[int, LoadedKey]:
        found = decode(_Entries, state)
        if found.version != _FORMAT:
            raise ValueError(f"keys of version {found.version}")
        return {e.handle: LoadedKey(e.handle, e.key.key(), bool(e.parent_pcr_status), e.control)
                for e in found.keys}

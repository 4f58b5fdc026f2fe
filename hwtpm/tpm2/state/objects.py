"""Objects: their names, the transient and persistent handles, and the primaries made lately.

An `Object` does not change once it is loaded: TPM2_ObjectChangeAuth returns a new private area and leaves the
loaded object alone (Part 3, 12.8), and a persistent object is evicted or kept whole.  So a transient and a
persistent handle can share one, and so can a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, NamedTuple

from hwtpm.crypto import hashes
from hwtpm.crypto.errors import CryptoError
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import MAX_EVICT_OBJECTS, MAX_LOADED_OBJECTS, RSA_DEFAULT_PUBLIC_EXPONENT
from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.state.recent import Recent
from hwtpm.tpm2.state.sequences import AnySequence, decode_sequence
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT
from hwtpm.tpm2.types.attributes import (
    TPMA_OBJECT_DECRYPT,
    TPMA_OBJECT_RESTRICTED,
    TPMA_OBJECT_STCLEAR,
)
from hwtpm.tpm2.types.base import UINT8, UINT32
from hwtpm.tpm2.types.constants import (
    TPM_ALG_KEYEDHASH,
    TPM_ALG_NULL,
    TPM_RC_BINDING,
    TPM_RC_KEY,
    TPM_RC_NV_DEFINED,
    TPM_RC_NV_SPACE,
    TPM_RC_OBJECT_MEMORY,
)
from hwtpm.tpm2.types.handles import (
    PERSISTENT_FIRST,
    TPM_HANDLE,
    TPM_HT_PERSISTENT,
    TPM_RH_NULL,
    TRANSIENT_FIRST,
)
from hwtpm.tpm2.types.objects import (
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE,
    TPMS_ECC_PARMS,
    TPMS_RSA_PARMS,
    TPMT_PUBLIC,
    TPMT_SENSITIVE,
)
from hwtpm.tpm2.types.structures import TPM2B_NAME
from hwtpm.wire import PLUS, RC_INSUFFICIENT, RC_VALUE, SECRET, ListOf, Sized, Wire, decode, encode

if TYPE_CHECKING:
    from hwtpm.crypto.ecc import EccPrivate, EccPublic
    from hwtpm.crypto.rsa import RsaPrivate, RsaPublic

_PARENT: Final = TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT
_FORMAT: Final = 1
_HEAD: Final = Struct(">IH")
_CACHED_PRIMARIES: Final = 32
_CACHED_ANSWERS: Final = 32


def public_name(public: TPMT_PUBLIC) -> bytes:
    """Return the Name of a public area: nameAlg and its digest (Part 1, 14); empty without a nameAlg."""
    alg = public.name_alg
    if alg == TPM_ALG_NULL:
        return b""
    return alg.to_bytes(2, "big") + hashes.digest(alg, encode(public))


def qualified_name(parent: bytes, alg: int, name: bytes) -> bytes:
    """Return the Qualified Name below *parent*: that of the parent, or a hierarchy handle (Part 1, 23.5)."""
    if alg == TPM_ALG_NULL:
        return b""
    return alg.to_bytes(2, "big") + hashes.digest(alg, parent, name)


class _Encoded(Wire):
    """An object in a context blob or in permanent state; flags: 1 external, 2 stClear in it or above."""

    version: UINT8
    flags: UINT8
    hierarchy: TPM_HANDLE
    qualified_name: TPM2B_NAME
    public: Annotated[TPM2B_PUBLIC, PLUS]
    sensitive: TPM2B_SENSITIVE


class _Transient(Wire):
    handle: UINT32
    is_sequence: FLAG
    octets: Annotated[bytes, Sized(0xFFFF), SECRET]


class _Live(Wire):
    version: UINT8
    transient: Annotated[list[_Transient], ListOf(MAX_LOADED_OBJECTS, prefix="B")]


class Object:
    """A loaded object.

    *hierarchy* is the one it hangs from, TPM_RH_NULL for a temporary one.  An *external* object came through
    TPM2_LoadExternal and has no ancestors.  *st_clear* says that the attribute is SET in it or in an
    ancestor.
    """

    is_sequence: ClassVar[bool] = False

    def __init__(self, public: TPMT_PUBLIC, sensitive: TPMT_SENSITIVE | None, hierarchy: int, *,
                 qualified_name: bytes, external: bool = False, st_clear: bool = False,
                 name: bytes | None = None) -> None:
        self.public = public
        self.sensitive = sensitive
        self.name = public_name(public) if name is None else name
        self.qualified_name = qualified_name
        self.hierarchy = hierarchy
        self.external = external
        self.attributes = public.object_attributes
        self.st_clear = st_clear or bool(self.attributes & TPMA_OBJECT_STCLEAR)
        self.auth_value = sensitive.auth_value.rstrip(b"\0") if sensitive is not None else b""

    def __repr__(self) -> str:
        return f"<object {self.name.hex()}>"

    @property
    def temporary(self) -> bool:
        """It is gone at the next TPM Reset and cannot be made persistent."""
        return self.hierarchy == TPM_RH_NULL

    @property
    def is_parent(self) -> bool:
        """It is a Storage Parent: both areas, restricted, decrypt, not a keyed hash (Part 1, 22.1.5)."""
        return self._restricted_decryption and self.public.type != TPM_ALG_KEYEDHASH

    @property
    def is_derivation_parent(self) -> bool:
        """It is a keyed hash from which other objects can be derived (Part 1, 22.1.5)."""
        return self._restricted_decryption and self.public.type == TPM_ALG_KEYEDHASH

    @property
    def _restricted_decryption(self) -> bool:
        return (self.attributes & _PARENT == _PARENT and not self.external and self.sensitive is not None
                and self.public.name_alg != TPM_ALG_NULL)

    @cached_property
    def key(self) -> RsaPrivate | EccPrivate:
        """The live private key of an asymmetric object with a sensitive area.

        Raises TPM_RC_BINDING when the two areas do not belong together, TPM_RC_KEY for a key that the
        algorithm does not allow.  The check of an RSA key is that of Part 1, 43.1.
        """
        assert self.sensitive is not None
        parameters, unique = self.public.parameters, self.public.unique
        try:
            if isinstance(parameters, TPMS_RSA_PARMS) and isinstance(unique, bytes):
                from hwtpm.crypto.rsa import RsaPrivate

                exponent = parameters.exponent or RSA_DEFAULT_PUBLIC_EXPONENT
                return RsaPrivate(unique, self.sensitive.sensitive, exponent)
            from hwtpm.crypto.ecc import EccPrivate

            assert isinstance(parameters, TPMS_ECC_PARMS), "a symmetric object has no live key"
            return EccPrivate(parameters.curve_id, self.sensitive.sensitive)
        except CryptoError:
            raise TpmError(TPM_RC_BINDING) from None

    @cached_property
    def public_key(self) -> RsaPublic | EccPublic:
        """The live public key of an asymmetric object; raises TPM_RC_KEY when there cannot be such a key."""
        parameters, unique = self.public.parameters, self.public.unique
        try:
            if isinstance(parameters, TPMS_RSA_PARMS) and isinstance(unique, bytes):
                from hwtpm.crypto.rsa import RsaPublic

                return RsaPublic(unique, parameters.exponent or RSA_DEFAULT_PUBLIC_EXPONENT)
            from hwtpm.crypto.ecc import EccPublic

            assert isinstance(parameters, TPMS_ECC_PARMS), "a symmetric object has no live key"
            assert isinstance(unique, TPMS_ECC_POINT)
            return EccPublic(parameters.curve_id, unique.x, unique.y)
        except CryptoError:
            raise TpmError(TPM_RC_KEY) from None

    def with_auth(self, auth_value: bytes) -> Object:
        """Return this object with another authValue, which has no trailing zeros."""
        if auth_value == self.auth_value:
            return self
        assert self.sensitive is not None
        other = copy(self)
        old = self.sensitive
        other.sensitive = TPMT_SENSITIVE(old.sensitive_type, auth_value, old.seed_value, old.sensitive)
        other.auth_value = auth_value
        return other

    def encode(self) -> bytes:
        """Return everything that `decode` needs to make this object again, secrets included."""
        flags = self.external | self.st_clear << 1
        saved = _Encoded(_FORMAT, flags, self.hierarchy, self.qualified_name, self.public, self.sensitive)
        return encode(saved)

    @classmethod
    def decode(cls, octets: bytes) -> Object:
        """Return the object that `encode` described; raises TpmError when the octets are not of that form."""
        saved = decode(_Encoded, octets)
        if saved.version != _FORMAT:
            raise TpmError(RC_VALUE)
        return cls(saved.public, saved.sensitive, saved.hierarchy, qualified_name=saved.qualified_name,
                   external=bool(saved.flags & 1), st_clear=bool(saved.flags & 2))


class Answer(NamedTuple):
    """What TPM2_CreatePrimary came to: the object, and the octets of the response's parameters."""

    made: Object
    parameters: bytes


class Objects(Owner):
    """The loaded and the persistent objects, by handle.

    Persistent objects are permanent state.  Transient ones are gone at every Startup (Part 3, 9.3), as are
    the cached primaries and answers, which are no state at all: they are what a derivation and
    TPM2_CreatePrimary would give again.
    """

    TAG = b"OBJS"

    def __init__(self) -> None:
        super().__init__()
        self.transient: dict[int, Object | AnySequence] = {}
        self.persistent: dict[int, Object] = {}
        self._primaries: Recent[tuple[object, ...], Object] = Recent(_CACHED_PRIMARIES)
        self.repeated = False  # what `primary` returned last had been derived before
        # The answers to TPM2_CreatePrimary, by all that they depend on; no key holds a secret of a caller.
        self.answers: Recent[tuple[object, ...], Answer] = Recent(_CACHED_ANSWERS)

    def get(self, handle: int) -> Object | AnySequence:
        """Return what a transient or persistent handle names; raises KeyError when it names nothing."""
        if handle >= PERSISTENT_FIRST:
            return self.persistent[handle]
        return self.transient[handle]

    def loaded(self, handle: int) -> Object | None:
        """Return the object that *handle* names, None if it names a sequence; KeyError for nothing."""
        found = self.get(handle)
        return found if isinstance(found, Object) else None

    def check_room(self) -> None:
        """Raise TPM_RC_OBJECT_MEMORY when no transient handle is free."""
        if len(self.transient) >= MAX_LOADED_OBJECTS:
            raise TpmError(TPM_RC_OBJECT_MEMORY)

    def add(self, found: Object | AnySequence) -> int:
        """Load an object or sequence and return its handle, the lowest free one.

        Raises TPM_RC_OBJECT_MEMORY when no transient handle is free.
        """
        self.check_room()
        handle = TRANSIENT_FIRST
        while handle in self.transient:
            handle += 1
        self.transient[handle] = found
        return handle

    def flush(self, handle: int) -> None:
        """Unload a transient object or sequence; raises KeyError when it is not loaded."""
        del self.transient[handle]

    def flush_hierarchy(self, hierarchy: int) -> None:
        """Unload the transient objects of a hierarchy, and forget the primaries made lately."""
        self.transient = {h: o for h, o in self.transient.items()
                          if o.is_sequence or o.hierarchy != hierarchy}
        self.forget()

    def forget(self) -> None:
        """No primary is remembered, nor an answer."""
        self._primaries.clear()
        self.answers.clear()

    def evict_hierarchy(self, hierarchy: int) -> None:
        """Remove the persistent objects of a hierarchy (TPM2_Clear, TPM2_ChangeEPS, TPM2_ChangePPS)."""
        kept = {h: o for h, o in self.persistent.items() if o.hierarchy != hierarchy}
        if len(kept) != len(self.persistent):
            self.persistent = kept
            self.touch()

    def persist(self, handle: int, found: Object) -> None:
        """Make an object persistent at *handle*; the transient one stays.

        Raises TPM_RC_NV_DEFINED when the handle is taken, TPM_RC_NV_SPACE when there is no room.
        """
        if handle in self.persistent:
            raise TpmError(TPM_RC_NV_DEFINED)
        if len(self.persistent) >= MAX_EVICT_OBJECTS:
            raise TpmError(TPM_RC_NV_SPACE)
        self.persistent[handle] = found
        self.touch()

    def evict(self, handle: int) -> None:
        """Remove a persistent object; raises KeyError when there is none."""
        del self.persistent[handle]
        self.touch()

    def primary(self, key: tuple[object, ...], derive: Callable[[], Object]) -> Object:
        """Return the primary of *key*, which is all that *derive* starts from; derive it if need be."""
        found = self._primaries.get(key)
        self.repeated = found is not None
        if found is None:
            found = derive()
            self._primaries.put(key, found)
        return found

    def save(self) -> bytes:
        """Return the permanent state: UINT8 version, then UINT32 handle, UINT16 size and the object each."""
        pieces = [bytes([_FORMAT])]
        for handle in sorted(self.persistent):
            octets = self.persistent[handle].encode()
            pieces += (_HEAD.pack(handle, len(octets)), octets)
        return b"".join(pieces)

    def restore(self, state: bytes) -> None:
        if state[:1] != bytes([_FORMAT]):
            raise ValueError("persistent objects of another version")
        persistent: dict[int, Object] = {}
        off = 1
        while off < len(state):
            try:
                handle, size = _HEAD.unpack_from(state, off)
            except StructError:
                raise TpmError(RC_INSUFFICIENT) from None
            off += _HEAD.size
            if handle >> 24 != TPM_HT_PERSISTENT or handle in persistent:
                raise ValueError(f"a persistent object at handle 0x{handle:08x}")
            persistent[handle] = Object.decode(state[off : off + size])
            off += size
        self.persistent = persistent

    def save_live(self) -> bytes:
        """Return version and the transient objects and sequences by handle."""
        return encode(_Live(_FORMAT, [
            _Transient(handle, found.is_sequence, found.encode()) for handle, found in self.transient.items()
        ]))

    def restore_live(self, state: bytes) -> None:
        found = decode(_Live, state)
        if found.version != _FORMAT:
            raise ValueError(f"transient objects of version {found.version}")
        transient: dict[int, Object | AnySequence] = {}
        for saved in found.transient:
            if saved.handle - TRANSIENT_FIRST not in range(MAX_LOADED_OBJECTS) or saved.handle in transient:
                raise ValueError(f"a transient object at handle 0x{saved.handle:08x}")
            make = decode_sequence if saved.is_sequence else Object.decode
            transient[saved.handle] = make(saved.octets)
        self.transient = transient

    def startup(self, start: Start) -> None:
        self.transient.clear()
        self.forget()


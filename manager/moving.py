"""A vTPM on its way from one manager to another, as one file.

    bundle    magic[12] "cusetpm move", UINT16 version, the public keys of target, source and this bundle
              (32 each), then nonce[12], ciphertext, tag[16]

Each store has a key pair on Curve25519, derived from its sealed root key; the public key is its address.  The
bundle is encrypted under a key from two agreements, of the bundle's own key and of the source's with the
target's: so only the target opens it, and it knows who has made it.

A vTPM lives in one place.  Its row at the source says that it has moved, and where, before there is a bundle,
and no copy of the store from before can be opened any more, which would not know.  Each move makes its
generation higher: a manager takes no bundle of a generation that it has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Annotated, Final, NamedTuple
from uuid import UUID

from hwtpm.crypto import aead, kdf, x25519
from hwtpm.crypto.errors import AuthenticationFailed, CryptoError
from hwtpm.crypto.ids import SHA256
from hwtpm.errors import StateError, TpmError
from hwtpm.wire import Boxed, Fixed, Sized, Wire, decode, encode
from manager.book import NoVtpm
from manager.change import Change
from manager.manager import Manager
from manager.model import ADMIN, MOVED, ROOT, Gone, Vtpm

_HEAD: Final = Struct(">12sH32s32s32s")
_MAGIC: Final = b"cusetpm move"
_VERSION: Final = 1


class _Load(Wire):
    """What a bundle carries: the vTPM, and its state as the source has it in a file."""

    uuid: Annotated[bytes, Fixed(16)]
    vtpm: Annotated[Vtpm, Boxed()]
    name: Annotated[bytes, Sized(255, prefix="B")]
    state: Annotated[bytes, Sized(1 << 24, prefix="I")]


class Arrived(NamedTuple):
    """What a bundle has brought: the UUID and the name of a vTPM, and its state, still encrypted."""

    uuid: UUID
    name: str
    state: bytes


def address(manager: Manager) -> bytes:
    """Return the 32 octets by which *manager* is known to those who send it vTPMs."""
    return x25519.public(manager.moving_key())


def send(manager: Manager, uuid: UUID, target: bytes, name: str,
         state: Callable[[bytes], tuple[bytes, bytes]],
         entropy: Callable[[int], bytes]) -> bytes:
    """Return the bundle of the vTPM *uuid* for the manager whose address is *target*.

    *state* is given hash and key of its state, and gives those of the state to send, and that.  The vTPM is
    no more to be used here, durably, nor with any copy of the store that there is, but can be sent to the
    same target again.  StateError, one line for people, if it has moved elsewhere or there is no state to
    send; nothing has changed then.
    """
    private = manager.moving_key()
    source, own = x25519.public(private), entropy(x25519.SIZE)
    if target == source:
        raise StateError(f"vTPM {uuid}: that is the address of this manager")
    with manager.change() as change:
        vtpm = change.vtpm(uuid)
        if not vtpm.flags & MOVED:
            vtpm.flags, vtpm.target, vtpm.generation = vtpm.flags | MOVED, target, vtpm.generation + 1
            change.put_vtpm(uuid, vtpm)
            group = change.find(uuid)
            assert group is not None
            change.renew(group)
        elif vtpm.target != target:
            raise StateError(f"vTPM {uuid} has moved to the manager {vtpm.target.hex()}, and can be sent "
                             f"again to that one only")
        if not vtpm.hash_key:
            raise StateError(f"vTPM {uuid} has no state yet; make a new one at the other manager")
        hash_key, octets = state(vtpm.hash_key)
        sent = Vtpm(0, hash_key, vtpm.kernel, vtpm.generation)
        load = encode(_Load(uuid.bytes, sent, name.encode(), octets))
        head = _HEAD.pack(_MAGIC, _VERSION, target, source, x25519.public(own))
        try:
            key = _key(head, x25519.shared(own, target), x25519.shared(private, target))
        except CryptoError:
            raise StateError(f"{target.hex()} is not the address of a manager") from None
        bundle = head + aead.seal(key, entropy(aead.NONCE_SIZE), load, head)
    return bundle


def look(manager: Manager, bundle: bytes, sender: bytes | None = None) -> Arrived:
    """Return what `receive` would; whether it would be taken is not known yet."""
    return _arrived(_opened(manager.moving_key(), bundle, sender))


def receive(manager: Manager, bundle: bytes, group: int = ROOT, sender: bytes | None = None) -> Arrived:
    """The vTPM in *bundle* is one of *manager*'s, in *group*, durably; return what has arrived.

    *sender* is the address that it has to come from, if that is known.  A bundle whose vTPM has arrived, and
    was not used since, may be received again.  StateError, one line for people, for every other that is not
    for this manager, was changed, or whose vTPM is here or has been; nothing has changed then.
    """
    load = _opened(manager.moving_key(), bundle, sender)
    arrived, new = _arrived(load), load.vtpm
    uuid = arrived.uuid
    with manager.change() as change:
        seen = _seen(change, uuid)
        if isinstance(seen, Vtpm) and not seen.flags & MOVED and (
                seen.generation, seen.hash_key) == (new.generation, new.hash_key):
            return arrived
        if isinstance(seen, Vtpm) and not seen.flags & MOVED:
            raise StateError(f"vTPM {uuid} is here already")
        if seen is not None and seen.generation >= new.generation:
            raise StateError(f"vTPM {uuid} has been here since this bundle was made, which is an old one")
        new.flags = seen.flags & ADMIN if isinstance(seen, Vtpm) else 0
        change.put_vtpm(uuid, new, group)
    return arrived


def _arrived(load: _Load) -> Arrived:
    return Arrived(UUID(bytes=load.uuid), load.name.decode(errors="replace"), load.state)


def _seen(change: Change, uuid: UUID) -> Vtpm | Gone | None:
    """Return what the manager knows of the vTPM *uuid*."""
    try:
        return change.vtpm(uuid)
    except NoVtpm:
        return next((gone for gone in change.group(ROOT).gone if gone.uuid == uuid.bytes), None)


def _opened(private: bytes, bundle: bytes, sender: bytes | None) -> _Load:
    if len(bundle) < _HEAD.size or not bundle.startswith(_MAGIC):
        raise StateError("this is not a vTPM that was exported")
    head = bundle[: _HEAD.size]
    _, version, target, source, own = _HEAD.unpack(head)
    if version != _VERSION:
        raise StateError(f"this was exported by another version of cusetpm (format {version}, this one reads "
                         f"{_VERSION})")
    if target != x25519.public(private):
        raise StateError(f"this was exported for another manager, whose address is {target.hex()}")
    if sender is not None and sender != source:
        raise StateError(f"this was exported by another manager, whose address is {source.hex()}")
    try:
        key = _key(head, x25519.shared(private, own), x25519.shared(private, source))
        return decode(_Load, aead.open(key, bundle[_HEAD.size :], head))
    except (AuthenticationFailed, CryptoError, TpmError):
        raise StateError("this was exported for this manager, and then changed or damaged; export the vTPM "
                         "again") from None


def _key(head: bytes, one: bytes, other: bytes) -> bytes:
    return kdf.kdfa(SHA256, one + other, b"cusetpm manager moving", head, b"", 256)

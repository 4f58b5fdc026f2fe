"""Looks at everything in a store, and names what is damaged."""

from __future__ import annotations

from collections.abc import Iterator

from hwtpm.crypto.errors import AuthenticationFailed
from hwtpm.errors import ProtocolError, StateError, TpmError
from manager.book import Book, differs, opened, problems
from manager.model import ROOT, Identity, Rows, SealedKey, place_name, seal_place
from manager.opening import present_keys, unsealed
from manager.sealing import Conversation, OtherConfiguration, SealingChip
from manager.store import Store


def check(store: Store, chip: SealingChip) -> list[str]:
    """Return a line for everything in *store* that is damaged, or that *chip* has lost; none if all is well.

    What the chip does not open in the configuration that the machine is in cannot be looked at, and is no
    damage.  OSError as the chip's client and the file system give it.
    """
    found = [f"a page of the file: {line}" for line in store.integrity()]
    try:
        found += _contents(store, chip)
    except (StateError, TpmError, ProtocolError) as error:
        found.append(str(error))
    return found


def _contents(store: Store, chip: SealingChip) -> Iterator[str]:
    identity, seals = store.identity(), store.keys(ROOT)
    if identity is None or not seals:
        yield "the store is not complete: it has never been used"
        return
    mark, rows = store.read()
    with chip.conversation(seals[0].parent) as talk:
        yield from _seals(talk, rows.seals_of(ROOT), ROOT, None)
        keys = present_keys(chip, talk, unsealed(talk, seals), identity)
        try:
            stored = keys.open_mark(mark)
        except AuthenticationFailed:
            yield "the mark is damaged, or of before a key was destroyed: it cannot be decrypted"
            return
        yield from _counter(talk, identity, keys.counter_auth, mark.epoch)
        book = Book(keys, rows, keys.digest_of(rows), lambda sealed: unsealed(talk, sealed))
        damaged = problems(book)
        yield from damaged
        told = differs(book, stored)
        if told is not None and not damaged:
            yield told
        for number in book.groups():
            if number != ROOT:
                yield from _seals(talk, rows.seals_of(number), number, book)
    yield from _belonging(rows)


def _seals(talk: Conversation, seals: list[SealedKey], number: int, book: Book | None) -> Iterator[str]:
    """Give a line for each of *seals*, those of the group *number*, that the chip does not give back."""
    for position, sealed in enumerate(seals):
        name = place_name(seal_place(number, position))
        try:
            secret = talk.unseal(sealed)
            if book is not None:
                opened(number, secret, book.opened_row(number)[0])
        except OtherConfiguration:
            continue
        except StateError as error:
            yield f"{name}: {error}"


def _counter(talk: Conversation, identity: Identity, auth: bytes, epoch: int) -> Iterator[str]:
    count = talk.counter(identity.counter, auth)
    if count != epoch:
        yield f"the store is at save {epoch}, the chip has counted {count}"


def _belonging(rows: Rows) -> Iterator[str]:
    """Give a line for each row whose group is not there, and for each group without a sealed key."""
    for uuid, vtpm in rows.vtpms.items():
        if vtpm.group not in rows.groups:
            yield f"vTPM {uuid} is in group {vtpm.group}, which is not there"
    for number in rows.groups:
        if not rows.seals_of(number):
            yield f"group {number} has no sealed key"

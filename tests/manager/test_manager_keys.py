"""The envelopes: what is not exactly what was made is noticed."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto.errors import AuthenticationFailed
from manager.keys import GroupKeys, RootKeys, same
from manager.model import (
    Changes,
    Group,
    GroupRow,
    Identity,
    Mark,
    Platform,
    Rows,
    SealedKey,
    Vtpm,
    VtpmRow,
    group_place,
    seal_place,
    vtpm_place,
)

IDENTITY = Identity(b"i" * 16, 0x01800001, 0x01800002)
KEYS = RootKeys(b"r" * 32, b"m" * 32, IDENTITY)
OTHERS = [
    RootKeys(b"s" * 32, b"m" * 32, IDENTITY), RootKeys(b"r" * 32, b"o" * 32, IDENTITY),
    RootKeys(b"r" * 32, b"", IDENTITY), RootKeys(b"r" * 32, b"m" * 32, IDENTITY._replace(store=b"j" * 16)),
    RootKeys(b"r" * 32, b"m" * 32, IDENTITY._replace(counter=2)),
    RootKeys(b"r" * 32, b"m" * 32, IDENTITY._replace(mask=2))]
A, B, C = UUID(bytes=b"a" * 16), UUID(bytes=b"b" * 16), UUID(bytes=b"c" * 16)
N1, N2 = b"n" * 12, b"m" * 12
GROUP_KEYS = GroupKeys(1, b"g" * 32, b"h" * 32)
VTPM = Vtpm(1, b"k" * 64, b"kernel")
ROW = GROUP_KEYS.encrypt_vtpm(A, VtpmRow(1, 7, 5, b""), VTPM, N1)
GROUP = Group(b"u" * 16, b"saa", b"aik", b"auth", 3, [Platform(b"\xff\0\0", b"d" * 32)],
              [b"l" * 20], 1, b"r", [])
GROUP_ROW = KEYS.encrypt_group(1, 5, GROUP_KEYS.half, GROUP, N1)
SEAL = SealedKey(b"parent", b"\xff\0\0", b"digest", b"public", b"private")


def test_a_row_opens_to_what_it_was_made_of() -> None:
    assert GROUP_KEYS.decrypt_vtpm(A, ROW) == VTPM
    assert ROW[:3] == (1, 7, 5)
    assert KEYS.decrypt_group(1, GROUP_ROW) == (GROUP_KEYS.half, GROUP)


@given(st.integers(0, 8 * len(ROW.sealed) - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    changed = bytearray(ROW.sealed)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AuthenticationFailed):
        GROUP_KEYS.decrypt_vtpm(A, ROW._replace(sealed=bytes(changed)))


@given(st.binary(max_size=120))
def test_octets_from_elsewhere_are_no_row_and_no_mark(octets: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        GROUP_KEYS.decrypt_vtpm(A, ROW._replace(sealed=octets))
    with pytest.raises(AuthenticationFailed):
        KEYS.decrypt_group(1, GroupRow(5, octets))
    with pytest.raises(AuthenticationFailed):
        KEYS.open_mark(Mark(5, octets))
    with pytest.raises(AuthenticationFailed):
        KEYS.decrypt_mask(Mark(5, b"", octets))


def test_a_vtpms_row_belongs_to_one_vtpm_one_group_one_epoch_and_one_key() -> None:
    others = [(GROUP_KEYS, B, ROW), *((GROUP_KEYS, A, ROW._replace(**{name: 9}))
                                      for name in ("group", "created", "epoch")),
              (GroupKeys(1, b"x" * 32, b"h" * 32), A, ROW), (GroupKeys(1, b"g" * 32, b"x" * 32), A, ROW),
              (GroupKeys(2, b"g" * 32, b"h" * 32), A, ROW)]
    for keys, uuid, row in others:
        with pytest.raises(AuthenticationFailed):
            keys.decrypt_vtpm(uuid, row)


def test_a_groups_row_belongs_to_one_group_one_epoch_one_root_key_one_mask_and_one_store() -> None:
    for keys, number, row in [(KEYS, 2, GROUP_ROW), (KEYS, 1, GROUP_ROW._replace(epoch=6)),
                              *((keys, 1, GROUP_ROW) for keys in OTHERS)]:
        with pytest.raises(AuthenticationFailed):
            keys.decrypt_group(number, row)


def test_the_two_halves_of_a_groups_key_prove_each_other() -> None:
    assert GroupKeys(1, b"g" * 32, b"h" * 32).half == GROUP_KEYS.half
    for number, sealed in (1, b"x" * 32), (2, b"g" * 32):
        assert GroupKeys(number, sealed, b"h" * 32).half.proof != GROUP_KEYS.half.proof


def all_rows() -> Rows:
    rows = Rows()
    rows.apply({vtpm_place(A): ROW, vtpm_place(B): ROW._replace(created=8), group_place(1): GROUP_ROW,
                seal_place(1, 0): SEAL})
    return rows


CHANGES: dict[str, Changes] = {
    "a vTPM less": {vtpm_place(A): None},
    "a vTPM more": {vtpm_place(C): ROW},
    "two swapped": {vtpm_place(A): ROW._replace(created=8), vtpm_place(B): ROW},
    "another group": {vtpm_place(A): ROW._replace(group=0)},
    "an older row": {vtpm_place(A): ROW._replace(epoch=4)},
    "a group less": {group_place(1): None},
    "an older group": {group_place(1): GROUP_ROW._replace(epoch=4)},
    "a key less": {seal_place(1, 0): None},
    "a key more": {seal_place(1, 1): SEAL},
    "a key of another group": {seal_place(1, 0): None, seal_place(2, 0): SEAL},
    "another digest": {seal_place(1, 0): SEAL._replace(digest=b"diges", public=b"tpublic")},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_mark_belongs_to_one_set_of_rows_and_says_which_one_differs(changes: Changes) -> None:
    rows = all_rows()
    stored = KEYS.open_mark(KEYS.mark(5, KEYS.digest_of(rows), N1))
    assert same(stored, KEYS.digest_of(rows))
    rows.apply(changes)
    found = KEYS.digest_of(rows)
    assert not same(stored, found)
    if len(changes) == 1:
        assert stored.odd_one(found) in changes
    else:
        assert not 1 <= stored.odd_one(found) >> 128 <= 3


def test_a_mark_belongs_to_one_epoch_one_root_key_one_mask_and_one_store() -> None:
    mark = KEYS.mark(5, KEYS.digest_of(all_rows()), N1)
    for keys, each in [(KEYS, mark._replace(epoch=6)), *((keys, mark) for keys in OTHERS)]:
        with pytest.raises(AuthenticationFailed):
            keys.open_mark(each)


def test_the_next_mask_belongs_to_one_epoch_and_one_root_key() -> None:
    mark = Mark(5, b"", KEYS.encrypt_mask(b"new" * 10, 5, N1))
    assert KEYS.decrypt_mask(mark) == b"new" * 10
    for keys, each in [(KEYS, mark._replace(epoch=6)), *((keys, mark) for keys in OTHERS)]:
        with pytest.raises(AuthenticationFailed):
            keys.decrypt_mask(each)


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.none() | st.binary(min_size=28, max_size=92))))
def test_the_digest_kept_save_by_save_is_that_of_all_rows(saves: list[tuple[UUID, bytes | None]]) -> None:
    rows = Rows()
    digest = KEYS.digest_of(rows)
    for epoch, (uuid, sealed) in enumerate(saves):
        changes: Changes = {vtpm_place(uuid): None if sealed is None else VtpmRow(0, 1, epoch, sealed)}
        digest = KEYS.with_changes(digest, rows, changes)
        rows.apply(changes)
    assert same(digest, KEYS.digest_of(rows))
    assert digest.rows == len(rows.vtpms)


def test_keys_are_not_shown() -> None:
    for keys in KEYS, GROUP_KEYS:
        assert "72" * 8 not in repr(keys)
        assert "rrrr" not in repr(keys)
    assert b"k" * 64 not in repr(VTPM).encode()
    assert (len(KEYS.counter_auth), len(KEYS.mask_auth)) == (32, 20)
    assert not KEYS.counter_auth.startswith(KEYS.mask_auth)
    assert KEYS.counter_auth == OTHERS[1].counter_auth != OTHERS[0].counter_auth

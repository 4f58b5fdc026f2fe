"""The envelopes: what is not exactly what was made is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto.errors import AuthenticationFailed
from manager.keys import Digest, Keys
from manager.model import Identity, Mark, Row

IDENTITY = Identity(b"i" * 16, 0x01800001)
KEYS = Keys(b"r" * 32, IDENTITY)
A, B = b"a" * 16, b"b" * 16
N1, N2 = b"n" * 12, b"m" * 12
ROW = KEYS.encrypt_row(A, 5, b"k" * 64, N1)


def test_a_row_opens_to_what_it_was_made_of() -> None:
    assert KEYS.decrypt_row(A, ROW) == b"k" * 64
    assert ROW.epoch == 5


@given(st.integers(0, 8 * len(ROW.sealed) - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    changed = bytearray(ROW.sealed)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(AuthenticationFailed):
        KEYS.decrypt_row(A, Row(5, bytes(changed)))


@given(st.binary(max_size=120))
def test_octets_from_elsewhere_are_no_row_and_no_mark(octets: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        KEYS.decrypt_row(A, Row(5, octets))
    with pytest.raises(AuthenticationFailed):
        KEYS.check(Mark(5, octets), Digest())


def test_a_row_belongs_to_one_vtpm_one_epoch_one_store_and_one_root_key() -> None:
    others = [(KEYS, B, ROW), (KEYS, A, ROW._replace(epoch=6)),
              (Keys(b"s" * 32, IDENTITY), A, ROW), (Keys(b"r" * 32, Identity(b"j" * 16, 0x01800001)), A, ROW),
              (Keys(b"r" * 32, Identity(b"i" * 16, 0x01800002)), A, ROW)]
    for keys, uuid, row in others:
        with pytest.raises(AuthenticationFailed):
            keys.decrypt_row(uuid, row)


def test_a_mark_belongs_to_one_epoch_one_set_of_rows_and_one_store() -> None:
    rows = {A: ROW, B: KEYS.encrypt_row(B, 4, b"l" * 52, N2)}
    digest = KEYS.digest_of(rows)
    mark = KEYS.mark(5, digest, N1)
    KEYS.check(mark, digest)
    older = KEYS.encrypt_row(A, 3, b"o" * 64, N2)
    sets = [{A: ROW}, {B: rows[B]}, {}, {A: rows[B], B: ROW}, rows | {A: older}, rows | {b"c" * 16: ROW}]
    for other in sets:
        with pytest.raises(AuthenticationFailed):
            KEYS.check(mark, KEYS.digest_of(other))
    with pytest.raises(AuthenticationFailed):
        KEYS.check(mark._replace(epoch=6), digest)
    with pytest.raises(AuthenticationFailed):
        Keys(b"r" * 32, Identity(b"j" * 16, 0x01800001)).check(mark, digest)


@given(st.lists(st.tuples(st.sampled_from([A, B, b"c" * 16]), st.binary(min_size=28, max_size=92))))
def test_the_digest_kept_save_by_save_is_that_of_all_rows(saves: list[tuple[bytes, bytes]]) -> None:
    rows: dict[bytes, Row] = {}
    digest = Digest()
    for epoch, (uuid, sealed) in enumerate(saves):
        new = Row(epoch, sealed)
        digest = KEYS.with_row(digest, uuid, rows.get(uuid), new)
        rows[uuid] = new
    assert digest.pack() == KEYS.digest_of(rows).pack()
    assert digest.count == len(rows)


def test_keys_are_not_shown() -> None:
    assert "72" * 8 not in repr(KEYS)
    assert "rrrr" not in repr(KEYS)
    assert len(KEYS.counter_auth) == 32
    assert KEYS.counter_auth != Keys(b"s" * 32, IDENTITY).counter_auth

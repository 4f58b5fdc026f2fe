"""Running hashes and MACs: the same as in one go, and the same again after they were saved."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto import compression, hashes, ids, symmetric
from hwtpm.crypto.errors import OutOfRange, UnsupportedAlgorithm
from hwtpm.crypto.running import KEPT, HashState, RunningCmac, RunningHash, RunningHmac

PARTS = st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=6)
KEYS = {ids.AES: bytes(range(16)), ids.CAMELLIA: bytes(range(32)),
        ids.TDES: bytes.fromhex("8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5")}
ALGORITHMS = pytest.mark.parametrize("alg", hashes.ALGORITHMS)


@pytest.fixture(params=["the library", "Python"])
def fold(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are compressed by the library, where it can, or never."""
    if request.param == "Python":
        monkeypatch.setattr(compression, "by_library", lambda alg: None)


def again(running: RunningHash) -> RunningHash:
    return RunningHash.restore(running.alg, running.save())


@pytest.mark.usefixtures("fold")
@ALGORITHMS
def test_every_length_around_a_block_has_the_digest_of_hashlib(alg: int) -> None:
    block = hashes.block_size(alg)
    for size in (0, 1, *range(block - 18, block + 2), 3 * block + 5):
        message = bytes(n * 7 & 0xFF for n in range(size))
        whole = size - size % block
        chaining = compression.compress(alg, compression.start(alg), message[:whole])
        assert compression.finish(alg, chaining, message[whole:], size) == hashes.digest(alg, message), size


@ALGORITHMS
@given(parts=PARTS)
def test_a_hash_can_be_saved_between_any_two_parts(alg: int, parts: list[tuple[bytes, bool]]) -> None:
    running, message = RunningHash(alg), b""
    for part, saved in parts:
        if saved:
            running = again(running)
        running.update(part)
        message += part
        assert running.digest(b"tail") == hashes.digest(alg, message + b"tail")
        assert running.digest() == hashes.digest(alg, message)


@ALGORITHMS
@given(key=st.binary(max_size=200), parts=PARTS)
def test_an_hmac_can_be_saved_between_any_two_parts(alg: int, key: bytes,
                                                    parts: list[tuple[bytes, bool]]) -> None:
    running, message = RunningHmac(alg, key), b""
    for part, saved in parts:
        if saved:
            running = RunningHmac.restore(running.key, again(running.inner))
        running.update(part)
        message += part
        assert running.digest(b"tail") == hashes.hmac(alg, key, message, b"tail")


@pytest.mark.parametrize("alg", KEYS)
@given(parts=PARTS)
def test_a_cmac_can_be_saved_between_any_two_parts(alg: int, parts: list[tuple[bytes, bool]]) -> None:
    running, message = RunningCmac(alg, KEYS[alg]), b""
    for part, saved in parts:
        if saved:
            running = RunningCmac(alg, KEYS[alg], *running.save())
        running.update(part)
        message += part
        assert running.digest() == symmetric.cmac(alg, KEYS[alg], message)
        assert running.digest(b"tail") == symmetric.cmac(alg, KEYS[alg], message + b"tail")


@pytest.mark.usefixtures("fold")
@ALGORITHMS
def test_a_long_message_takes_bounded_memory(alg: int) -> None:
    """Also one that is restored, and has no hash object of hashlib's to go on with."""
    part = bytes(range(256)) * 8
    running, message = RunningHash(alg), b""
    for _ in range(3 * KEPT // len(part)):
        running.update(part)
        message += part
        assert len(running._rest) <= KEPT
    assert running.digest() == hashes.digest(alg, message)
    running = again(running)
    for _ in range(KEPT // len(part) + 2):
        running.update(part)
        message += part
        assert len(running._rest) <= KEPT
    assert running.digest() == hashes.digest(alg, message)
    assert len(running.save().rest) < hashes.block_size(alg)


@ALGORITHMS
def test_a_state_of_another_form_is_refused(alg: int) -> None:
    block = hashes.block_size(alg)
    running = RunningHash(alg)
    running.update(bytes(3 * block + 7))
    chaining, taken, rest = running.save()
    assert (taken, len(rest)) == (3 * block, 7)
    for state in (HashState(chaining[1:], taken, rest), HashState(b"", taken, rest),
                  HashState(chaining, taken + 1, rest), HashState(chaining, 0, rest),
                  HashState(chaining, taken, bytes(block)),
                  HashState(chaining, block << 61, rest)):
        with pytest.raises(OutOfRange):
            RunningHash.restore(alg, state)
    with pytest.raises(UnsupportedAlgorithm):
        RunningHash.restore(0x0010, HashState(chaining, taken, rest))
    with pytest.raises(OutOfRange):
        RunningHmac.restore(bytes(block - 1), RunningHash(alg))


def test_a_cmac_state_of_another_form_is_refused() -> None:
    key = KEYS[ids.AES]
    for chaining, rest in ((bytes(15), b""), (bytes(8), b""), (bytes(16), bytes(17))):
        with pytest.raises(OutOfRange):
            RunningCmac(ids.AES, key, chaining, rest)
    with pytest.raises(OutOfRange):
        RunningCmac(ids.AES, key[:15])
    with pytest.raises(UnsupportedAlgorithm):
        RunningCmac(ids.SHA256, key)


@pytest.mark.usefixtures("strange_library")
def test_a_library_that_is_not_known_to_work_is_not_used() -> None:
    for alg in (ids.SHA1, ids.SHA256, ids.SHA384, ids.SHA512):
        assert compression.by_library.__wrapped__(alg) is None


@pytest.mark.usefixtures("openssl")
def test_the_library_of_hashlib_is_used_where_it_is_openssl() -> None:
    """Debian's Python takes its hashes from libcrypto; without this, saving a sequence is slow."""
    assert compression.by_library(ids.SHA256) is not None
    assert compression.by_library(ids.SHA3_256) is None
    assert compression.compress(ids.SHA256, compression.start(ids.SHA256), b"\x80" + bytes(63)) == (
        hashlib.sha256(b"").digest())

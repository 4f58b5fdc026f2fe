"""Block ciphers, their chaining values, authenticated encryption and the generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto import aead, drbg, ids, symmetric
from hwtpm.crypto.derivation import Derivation
from hwtpm.crypto.errors import AuthenticationFailed, OutOfRange, UnsupportedAlgorithm

VECTORS = Path(__file__).parents[2] / "vectors" / "crypto"
KEY = bytes(range(16))
IV = bytes(range(16, 32))


def load(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return rows


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=False))


def block(data: bytes) -> bytes:
    return symmetric.encrypt(ids.AES, ids.ECB, KEY, b"", data)[0]


@pytest.mark.parametrize("row", load("aes_modes.json"))
def test_aes_modes_match_published_vectors(row: dict[str, Any]) -> None:
    mode = getattr(ids, row["mode"])
    key, iv, plain, cipher = (bytes.fromhex(row[name]) for name in ("key", "iv", "plain", "cipher"))
    assert symmetric.encrypt(ids.AES, mode, key, iv, plain)[0] == cipher
    assert symmetric.decrypt(ids.AES, mode, key, iv, cipher)[0] == plain
    if mode == ids.CFB:
        assert symmetric.cfb_encrypt(ids.AES, key, iv, plain) == cipher
        assert symmetric.cfb_decrypt(ids.AES, key, iv, cipher) == plain


def test_camellia_matches_rfc_3713() -> None:
    key = plain = bytes.fromhex("0123456789abcdeffedcba9876543210")
    cipher = bytes.fromhex("67673138549669730857065648eabe43")
    assert symmetric.encrypt(ids.CAMELLIA, ids.ECB, key, b"", plain)[0] == cipher
    assert symmetric.decrypt(ids.CAMELLIA, ids.ECB, key, b"", cipher)[0] == plain


@pytest.mark.parametrize("alg", symmetric.ALGORITHMS)
@pytest.mark.parametrize("mode", symmetric.MODES)
@given(data=st.binary(max_size=100), cut=st.integers(0, 6))
def test_chaining_value_continues_a_message(alg: int, mode: int, data: bytes, cut: int) -> None:
    data = data[: len(data) // 16 * 16]
    cut = min(cut * 16, len(data))
    iv = b"" if mode == ids.ECB else IV[: symmetric.block_size(alg)]
    whole, last = symmetric.encrypt(alg, mode, KEY, iv, data)
    first, middle = symmetric.encrypt(alg, mode, KEY, iv, data[:cut])
    second, end = symmetric.encrypt(alg, mode, KEY, middle, data[cut:])
    assert (first + second, end) == (whole, last)
    plain, chain = symmetric.decrypt(alg, mode, KEY, iv, whole)
    assert (plain, chain) == (data, last)


@given(data=st.binary(min_size=1, max_size=70))
def test_chaining_values_of_partial_blocks(data: bytes) -> None:
    """Part 3, Table 64, by its words, with nothing but the block function."""
    count = -(-len(data) // 16)
    tail = data[(count - 1) * 16 :]

    out, iv = symmetric.encrypt(ids.AES, ids.CTR, KEY, b"\xff" * 16, data)
    assert iv == (count - 1).to_bytes(16, "big")  # the counter wraps over all 128 bits
    assert symmetric.decrypt(ids.AES, ids.CTR, KEY, b"\xff" * 16, out) == (data, iv)

    stream = IV
    for _ in range(count):
        stream = block(stream)
    out, iv = symmetric.encrypt(ids.AES, ids.OFB, KEY, IV, data)
    assert iv == stream
    assert out[(count - 1) * 16 :] == xor(tail, stream)
    assert symmetric.decrypt(ids.AES, ids.OFB, KEY, IV, out) == (data, iv)

    out, iv = symmetric.encrypt(ids.AES, ids.CFB, KEY, IV, data)
    assert iv == out[(count - 1) * 16 :].ljust(16, b"\0")
    assert symmetric.decrypt(ids.AES, ids.CFB, KEY, IV, out) == (data, iv)


@pytest.mark.parametrize("mode", [ids.CTR, ids.OFB, ids.CBC, ids.CFB])
def test_empty_data_keeps_the_iv(mode: int) -> None:
    assert symmetric.encrypt(ids.AES, mode, KEY, IV, b"") == (b"", IV)
    assert symmetric.decrypt(ids.AES, mode, KEY, IV, b"") == (b"", IV)


def test_wrong_sizes_and_algorithms_are_refused() -> None:
    for mode in (ids.CTR, ids.OFB, ids.CBC, ids.CFB):
        with pytest.raises(OutOfRange):
            symmetric.encrypt(ids.AES, mode, KEY, IV[:15], bytes(16))
    for mode, iv in ((ids.CBC, IV), (ids.ECB, b"")):
        with pytest.raises(OutOfRange):
            symmetric.decrypt(ids.AES, mode, KEY, iv, bytes(17))
    with pytest.raises(OutOfRange):
        symmetric.encrypt(ids.AES, ids.ECB, KEY, IV, bytes(16))
    with pytest.raises(OutOfRange):
        symmetric.cfb_encrypt(ids.AES, KEY[:15], IV, b"")
    with pytest.raises(OutOfRange):
        symmetric.cfb_decrypt(ids.AES, KEY, b"", b"")
    with pytest.raises(UnsupportedAlgorithm):
        symmetric.cfb_encrypt(0x0013, KEY, IV, b"")
    with pytest.raises(UnsupportedAlgorithm):
        symmetric.encrypt(ids.AES, 0x0045, KEY, IV, b"")


TDES_KEY = bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123")


def test_tdes_matches_sp_800_67() -> None:
    """Appendix B.1, whose text is "The qufck brown fox jump"."""
    plain = bytes.fromhex("5468652071756663 6b2062726f776e20 666f78206a756d70")
    cipher = bytes.fromhex("a826fd8ce53b855f cce21c8112256fe6 68d5c05dd9b6b900")
    assert symmetric.encrypt(ids.TDES, ids.ECB, TDES_KEY, b"", plain)[0] == cipher
    assert symmetric.decrypt(ids.TDES, ids.ECB, TDES_KEY, b"", cipher)[0] == plain


@given(data=st.binary(min_size=1, max_size=40))
def test_tdes_modes_are_made_of_the_block_function(data: bytes) -> None:
    def run(text: bytes) -> bytes:
        return symmetric.encrypt(ids.TDES, ids.ECB, TDES_KEY, b"", text)[0]

    iv = b"\xff" * 7 + b"\xfe"
    count = -(-len(data) // 8)
    counters = [((int.from_bytes(iv, "big") + i) % 2**64).to_bytes(8, "big") for i in range(count + 1)]
    stream = b"".join(run(counter) for counter in counters)
    assert symmetric.encrypt(ids.TDES, ids.CTR, TDES_KEY, iv, data) == (xor(data, stream), counters[-1])
    cipher = b""
    for at in range(0, len(data), 8):
        cipher += xor(data[at : at + 8], run(cipher[-8:] or iv))
    assert symmetric.encrypt(ids.TDES, ids.CFB, TDES_KEY, iv, data)[0] == cipher
    assert symmetric.cfb_decrypt(ids.TDES, TDES_KEY, iv, cipher) == data


def test_tdes_keys() -> None:
    assert symmetric.with_parity(bytes(8)) == b"\x01" * 8
    assert symmetric.with_parity(TDES_KEY) == TDES_KEY
    assert symmetric.is_tdes_key(TDES_KEY)
    assert symmetric.is_tdes_key(TDES_KEY[:16])
    assert symmetric.is_tdes_key(bytes(octet ^ 1 for octet in TDES_KEY))
    assert not symmetric.is_tdes_key(TDES_KEY[:8] * 2)
    assert not symmetric.is_tdes_key(TDES_KEY[:8] + TDES_KEY[8:16] * 2)
    assert not symmetric.is_tdes_key(TDES_KEY[:16] + bytes(8))
    for key in (bytes(8), TDES_KEY[:8], TDES_KEY + bytes(8)):
        with pytest.raises(OutOfRange):
            symmetric.encrypt(ids.TDES, ids.ECB, key, b"", bytes(8))


@pytest.mark.parametrize(("alg", "key", "message", "mac"), [
    # RFC 4493, 4, and SP 800-38B, D.4 (TDES with three keys).
    (ids.AES, "2b7e151628aed2a6abf7158809cf4f3c", "", "bb1d6929e95937287fa37d129b756746"),
    (ids.AES, "2b7e151628aed2a6abf7158809cf4f3c", "6bc1bee22e409f96e93d7e117393172a",
     "070a16b46b4d4144f79bdd9dd04a287c"),
    (ids.TDES, "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", "", "b7a688e122ffaf95"),
    (ids.TDES, "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", "6bc1bee22e409f96",
     "8e8f293136283797"),
])
def test_cmac_matches_published_vectors(alg: int, key: str, message: str, mac: str) -> None:
    assert symmetric.cmac(alg, bytes.fromhex(key), bytes.fromhex(message)).hex() == mac


@given(data=st.binary(max_size=100), aad=st.binary(max_size=20), flip=st.integers(0, 1 << 16))
def test_any_changed_bit_fails_authentication(data: bytes, aad: bytes, flip: int) -> None:
    key, nonce = bytes(32), bytes(12)
    sealed = aead.seal(key, nonce, data, aad)
    assert sealed[: aead.NONCE_SIZE] == nonce
    assert len(sealed) == aead.NONCE_SIZE + len(data) + aead.TAG_SIZE
    assert aead.open(key, sealed, aad) == data
    at = flip % (len(sealed) * 8)
    changed = bytearray(sealed)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(AuthenticationFailed):
        aead.open(key, bytes(changed), aad)
    with pytest.raises(AuthenticationFailed):
        aead.open(key, sealed, aad + b"x")
    for size in (0, aead.NONCE_SIZE, aead.NONCE_SIZE + aead.TAG_SIZE - 1, len(sealed) - 1):
        with pytest.raises(AuthenticationFailed):
            aead.open(key, sealed[:size], aad)
    with pytest.raises(OutOfRange):
        aead.open(key[:16], sealed, aad)
    with pytest.raises(OutOfRange):
        aead.seal(key, nonce[:8], data, aad)


@pytest.mark.parametrize("row", load("ctr_drbg.json"))
def test_ctr_drbg_matches_cavp(row: dict[str, Any]) -> None:
    seed = b"".join(bytes.fromhex(row[name]) for name in ("entropy", "nonce", "personalization"))
    generator = drbg.CtrDrbg(seed)
    generator.generate(64)  # CAVP looks at the second request only.
    assert generator.generate(64) == bytes.fromhex(row["output"])


def test_generator_continues_from_its_saved_state() -> None:
    generator = drbg.CtrDrbg(b"seed")
    generator.generate(5)
    twin = drbg.CtrDrbg.restore(generator.save())
    assert twin.generate(100_000) == generator.generate(100_000)
    generator.reseed(b"more")
    assert twin.generate(16) != generator.generate(16)
    with pytest.raises(OutOfRange):
        drbg.CtrDrbg.restore(b"short")


def test_large_request_is_a_series_of_small_ones() -> None:
    one, other = drbg.CtrDrbg(b"seed"), drbg.CtrDrbg(b"seed")
    assert one.generate(65536 + 7) == other.generate(65536) + other.generate(7)


def test_derivation_repeats_and_depends_on_each_input() -> None:
    def first(seed: bytes, use: bytes, template: bytes) -> bytes:
        return Derivation(seed, use, template).random(32)

    base = first(b"seed", b"use", b"template")
    assert base == first(b"seed", b"use", b"template")
    others = [
        first(b"seed2", b"use", b"template"),
        first(b"seed", b"us", b"etemplate"),
        first(b"seed", b"use", b""),
    ]
    assert len({base, *others}) == 4


def test_mix_changes_what_follows_only() -> None:
    one, other = (Derivation(b"seed", b"use", b"template") for _ in range(2))
    assert one.random(40) == other.random(40)
    other.mix(b"proof")
    assert one.random(40) != other.random(40)

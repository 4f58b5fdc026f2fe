"""Hashes, HMAC and key derivation against published vectors and hashlib."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto import hashes, ids, kdf
from hwtpm.crypto.errors import UnsupportedAlgorithm
from hwtpm.crypto.running import RunningHmac

VECTORS = Path(__file__).parents[2] / "vectors" / "crypto"


def load(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return rows


@pytest.mark.parametrize("row", load("hmac.json"))
def test_hmac_matches_rfc_vectors(row: dict[str, Any]) -> None:
    alg, key, message = getattr(ids, row["alg"]), bytes.fromhex(row["key"]), bytes.fromhex(row["msg"])
    expected = bytes.fromhex(row["mac"])
    # RFC 4231 has one truncated case.
    assert hashes.hmac(alg, key, message)[: len(expected)] == expected
    running = RunningHmac(alg, key)
    running.update(message[:3])
    assert running.digest(message[3:])[: len(expected)] == expected


@pytest.mark.parametrize("alg", hashes.ALGORITHMS)
@given(key=st.binary(max_size=300), parts=st.lists(st.binary(max_size=80), max_size=4))
def test_parts_are_concatenated_and_any_key_size_is_good(alg: int, key: bytes, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    name = hashes.new(alg).name
    assert hashes.hmac(alg, key, *parts) == hmac.digest(key, whole, name)
    assert hashes.digest(alg, *parts) == hashlib.new(name, whole).digest()
    running = hashes.new(alg)
    running.update(whole)
    assert running.digest() == hashes.digest(alg, whole)


@pytest.mark.parametrize("alg", hashes.ALGORITHMS)
def test_sizes_are_those_of_the_hash(alg: int) -> None:
    assert hashes.size(alg) == hashes.new(alg).digest_size
    assert hashes.block_size(alg) == hashes.new(alg).block_size


def test_unknown_hash_is_refused() -> None:
    for call in (hashes.size, hashes.block_size, hashes.new, hashes.digest):
        with pytest.raises(UnsupportedAlgorithm):
            call(0x0010)
    with pytest.raises(UnsupportedAlgorithm):
        hashes.hmac(0x0010, b"")


@pytest.mark.parametrize("row", load("tpm_kdfa.json"), ids=lambda row: row["Name"])
def test_kdfa_vectors(row: dict[str, Any]) -> None:
    key, u, v = (bytes.fromhex(row[name]) for name in ("Key", "ContextU", "ContextV"))
    label = row["Label"].encode()
    expected = bytes.fromhex(row["Result"])
    assert kdf.kdfa(row["HashAlg"], key, label, u, v, row["Bits"]) == expected
    # The terminating zero of the label may come with it.
    assert kdf.kdfa(row["HashAlg"], key, label + b"\0", u, v, row["Bits"]) == expected


@pytest.mark.parametrize("row", load("tpm_kdfe.json"), ids=lambda row: row["Name"])
def test_kdfe_vectors(row: dict[str, Any]) -> None:
    z, u, v = (bytes.fromhex(row[name]) for name in ("Z", "ContextU", "ContextV"))
    label = row["Label"].encode()
    expected = bytes.fromhex(row["Result"])
    assert kdf.kdfe(row["HashAlg"], z, label, u, v, row["Bits"]) == expected
    assert kdf.kdfe(row["HashAlg"], z, label + b"\0", u, v, row["Bits"]) == expected


def test_kdfa_of_521_bits_clears_the_upper_seven() -> None:
    """The example of Part 1, 8.4.10.2."""
    out = kdf.kdfa(ids.SHA256, b"k", b"L", b"", b"", 521)
    assert len(out) == 66
    assert out[0] <= 1


def test_kdfa_without_label_has_one_zero_octet() -> None:
    expected = hmac.digest(b"key", bytes.fromhex("0000000100") + b"uv" + bytes.fromhex("00000100"), "sha256")
    assert kdf.kdfa(ids.SHA256, b"key", b"", b"u", b"v", 256) == expected


@given(data=st.binary(max_size=200))
def test_xor_obfuscation_is_its_own_inverse(data: bytes) -> None:
    hidden = kdf.xor_obfuscate(ids.SHA1, b"key", b"newer", b"older", data)
    assert len(hidden) == len(data)
    assert kdf.xor_obfuscate(ids.SHA1, b"key", b"newer", b"older", hidden) == data
    mask = kdf.kdfa(ids.SHA1, b"key", b"XOR", b"newer", b"older", len(data) * 8)
    assert hidden == bytes(a ^ b for a, b in zip(data, mask, strict=True))


def test_mgf1_matches_its_definition() -> None:
    expected = b"".join(hashlib.sha1(b"seed" + bytes([0, 0, 0, i])).digest() for i in range(3))[:50]
    assert kdf.mgf1(ids.SHA1, b"seed", 50) == expected

"""RSA keys, schemes and prime search."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from hwtpm.crypto import drbg, hashes, ids, kdf, oaep, primes, rsa
from hwtpm.crypto.derivation import Derivation
from hwtpm.crypto.errors import BadKey, BadPadding, BadSignature, Cancelled, OutOfRange, UnsupportedAlgorithm

VECTORS = Path(__file__).parents[2] / "vectors" / "crypto"
# RFC 8017, 9.2, note 1.
DIGEST_INFO = {
    ids.SHA1: "3021300906052b0e03021a05000414",
    ids.SHA256: "3031300d060960864801650304020105000420",
    ids.SHA384: "3041300d060960864801650304020205000430",
    ids.SHA512: "3051300d060960864801650304020305000440",
}


def load(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())
    return rows


def never() -> bool:
    return False


def make(bits: int, seed: bytes = b"test key") -> rsa.RsaPrivate:
    p, q = primes.generate_rsa(bits, 65537, drbg.CtrDrbg(seed).generate, never)
    return rsa.RsaPrivate(p * q, p)


@pytest.fixture(scope="module", params=[1024, 2048])
def key(request: pytest.FixtureRequest) -> rsa.RsaPrivate:
    return make(request.param)


@pytest.fixture(scope="module")
def key2048() -> rsa.RsaPrivate:
    return make(2048)


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def pss_salt(key: rsa.RsaPublic, alg: int, digest: bytes, signature: bytes) -> bytes:
    """The salt of a signature, by RFC 8017, 9.1.2 without the library."""
    encoded = key.raw(signature)
    size = hashes.size(alg)
    masked, h = encoded[: -size - 1], encoded[-size - 1 : -1]
    assert encoded[-1] == 0xBC
    db = xor(masked, kdf.mgf1(alg, h, len(masked)))
    db = bytes([db[0] & 0x7F]) + db[1:]
    at = db.index(1)
    assert not any(db[:at])
    salt = db[at + 1 :]
    assert hashes.digest(alg, bytes(8), digest, salt) == h
    return salt


@pytest.mark.parametrize("alg", hashes.ALGORITHMS)
def test_pkcs1_signature_verifies_and_a_changed_one_does_not(key: rsa.RsaPrivate, alg: int) -> None:
    digest = hashes.digest(alg, b"message")
    signature = key.sign_pkcs1(alg, digest)
    public = rsa.RsaPublic(key.modulus)
    public.verify_pkcs1(alg, digest, signature)
    for bad in (signature[:-1], b"", signature + b"\0", xor(signature, bytes(key.size - 1) + b"\x01")):
        with pytest.raises(BadSignature):
            public.verify_pkcs1(alg, digest, bad)
    with pytest.raises(BadSignature):
        public.verify_pkcs1(alg, hashes.digest(alg, b"other"), signature)


@pytest.mark.parametrize(("alg", "prefix"), DIGEST_INFO.items())
def test_pkcs1_signature_is_the_encoding_of_rfc_8017(key: rsa.RsaPrivate, alg: int, prefix: str) -> None:
    digest = hashes.digest(alg, b"message")
    tail = bytes.fromhex(prefix) + digest
    encoded = b"\0\x01" + b"\xff" * (key.size - 3 - len(tail)) + b"\0" + tail
    assert key.sign_pkcs1(alg, digest) == key.raw_private(encoded)


def test_block_signature_is_the_padded_block(key: rsa.RsaPrivate) -> None:
    """The scheme TPM_SS_RSASSAPKCS1v15_DER of TPM 1.2: the caller gives what is signed, whole."""
    for data in (b"", b"\0data", bytes(key.size - 11)):
        padded = b"\0\x01" + b"\xff" * (key.size - 3 - len(data)) + b"\0" + data
        assert key.raw(key.sign_block(data)) == padded
    with pytest.raises(OutOfRange):
        key.sign_block(bytes(key.size - 10))


def test_a_key_of_512_bits_signs_and_decrypts_what_fits() -> None:
    """TPM 1.2 has such keys (its Part 2, 10.1.1)."""
    key = make(512)
    digest = hashlib.sha1(b"message").digest()
    key.verify_pkcs1(ids.SHA1, digest, key.sign_pkcs1(ids.SHA1, digest))
    with pytest.raises(OutOfRange):
        key.sign_pkcs1(ids.SHA384, bytes(48))
    assert key.raw(key.sign_block(bytes(53)))[-54:] == bytes(54)
    limit = rsa.max_oaep_message(key.size, ids.SHA1)
    assert limit == 22
    assert key.decrypt_oaep(ids.SHA1, b"TCPA", key.encrypt_oaep(ids.SHA1, b"TCPA", bytes(22))) == bytes(22)
    with pytest.raises(OutOfRange):
        key.encrypt_oaep(ids.SHA1, b"TCPA", bytes(23))
    assert key.decrypt_pkcs1(key.encrypt_pkcs1(bytes(53))) == bytes(53)


@pytest.mark.parametrize("alg", hashes.ALGORITHMS)
def test_pss_salt_is_the_largest_that_fips_186_5_allows(key: rsa.RsaPrivate, alg: int) -> None:
    digest = hashes.digest(alg, b"message")
    signature = key.sign_pss(alg, digest)
    salt = pss_salt(key, alg, digest, signature)
    assert len(salt) == min(hashes.size(alg), key.size - hashes.size(alg) - 2) == rsa.salt_size(key.size, alg)
    key.verify_pss(alg, digest, signature)
    with pytest.raises(BadSignature):
        key.verify_pss(alg, hashes.digest(alg, b"other"), signature)
    with pytest.raises(BadSignature):
        key.verify_pkcs1(alg, digest, signature)


@pytest.mark.parametrize("row", load("rsa_pss.json"))
def test_pss_vectors_verify(row: dict[str, Any]) -> None:
    key = rsa.RsaPrivate(bytes.fromhex(row["n"]), bytes.fromhex(row["p"]), row["e"])
    digest = hashlib.sha1(bytes.fromhex(row["msg"])).digest()
    key.verify_pss(ids.SHA1, digest, bytes.fromhex(row["sig"]))
    assert key.raw_private(key.raw(bytes.fromhex(row["sig"]))) == bytes.fromhex(row["sig"])


def test_pss_accepts_the_salt_of_old_implementations(key2048: rsa.RsaPrivate) -> None:
    """The largest salt that fits, as TPMs before FIPS 186-4 made it (Part 1, 43.7)."""
    alg, size = ids.SHA256, 32
    digest = hashes.digest(alg, b"message")
    salt = bytes(range(key2048.size - size - 2))
    h = hashes.digest(alg, bytes(8), digest, salt)
    masked = xor(b"\x01" + salt, kdf.mgf1(alg, h, len(salt) + 1))
    signature = key2048.raw_private(bytes([masked[0] & 0x7F]) + masked[1:] + h + b"\xbc")
    key2048.verify_pss(alg, digest, signature)


@pytest.mark.parametrize("row", load("tpm_rsa_encaps.json"), ids=lambda row: row["Name"])
def test_oaep_secret_sent_to_a_tpm_key(row: dict[str, Any]) -> None:
    """Part 1, 43.10: the label with its terminating zero, the hash of the scheme or else the Name."""
    bits, name_alg, last = row["Name"].split("_")[2:]
    alg = getattr(ids, last if last.startswith("SHA") else name_alg)
    size = int(bits) // 8
    modulus = bytes.fromhex(row["PublicKey"])[-size:]
    prime = bytes.fromhex(row["PrivateKey"])[-size // 2 :]
    key = rsa.RsaPrivate(modulus, prime)
    label, secret = row["Label"].encode() + b"\0", bytes.fromhex(row["Secret"])
    assert key.decrypt_oaep(alg, label, bytes.fromhex(row["Ciphertext"])) == secret
    with pytest.raises(BadPadding):
        key.decrypt_oaep(alg, row["Label"].encode(), bytes.fromhex(row["Ciphertext"]))
    assert key.decrypt_oaep(alg, label, key.encrypt_oaep(alg, label, secret)) == secret


def test_oaep_takes_messages_up_to_its_limit(key2048: rsa.RsaPrivate) -> None:
    limit = rsa.max_oaep_message(key2048.size, ids.SHA256)
    assert limit == 256 - 66
    for size in (0, 1, limit):
        cipher = key2048.encrypt_oaep(ids.SHA256, b"", bytes(size))
        assert key2048.decrypt_oaep(ids.SHA256, b"", cipher) == bytes(size)
    with pytest.raises(OutOfRange):
        key2048.encrypt_oaep(ids.SHA256, b"", bytes(limit + 1))


@pytest.mark.parametrize("alg", [ids.SHA3_256, ids.SHA3_384, ids.SHA3_512, ids.SM3_256])
def test_oaep_with_hashes_that_the_library_does_not_know(key2048: rsa.RsaPrivate, alg: int) -> None:
    if alg not in hashes.ALGORITHMS:
        pytest.skip("this OpenSSL has no SM3")
    seeds = drbg.CtrDrbg(b"seeds").generate
    limit = rsa.max_oaep_message(key2048.size, alg)
    for message in (b"", b"\0\x01", bytes(limit)):
        cipher = key2048.encrypt_oaep(alg, b"a label\0", message, seeds)
        assert key2048.decrypt_oaep(alg, b"a label\0", cipher) == message
        with pytest.raises(BadPadding):
            key2048.decrypt_oaep(alg, b"", cipher)
        for change in (0, 1):
            # The leading octet is not zero, then the message no encoding at all.
            with pytest.raises(BadPadding):
                key2048.decrypt_oaep(alg, b"a label\0", key2048.raw(bytes([1 - change]) + bytes([7]) * 255))
    with pytest.raises(OutOfRange):
        key2048.encrypt_oaep(alg, b"", bytes(limit + 1), seeds)
    with pytest.raises(UnsupportedAlgorithm):
        key2048.encrypt_oaep(alg, b"", b"")


def test_the_oaep_encoding_is_that_of_the_library(key2048: rsa.RsaPrivate) -> None:
    encoded = oaep.encode(ids.SHA256, b"label", b"message", key2048.size, bytes(range(32)))
    assert key2048.decrypt_oaep(ids.SHA256, b"label", key2048.raw(encoded)) == b"message"
    sent = key2048.encrypt_oaep(ids.SHA256, b"label", b"message")
    assert oaep.decode(ids.SHA256, b"label", key2048.raw_private(sent)) == b"message"


def test_oaep_of_a_modulus_too_small_for_the_hash_is_refused() -> None:
    key = make(1024)
    with pytest.raises(OutOfRange):
        key.encrypt_oaep(ids.SHA512, b"", b"")
    with pytest.raises(OutOfRange):
        key.decrypt_oaep(ids.SHA512, b"", bytes(128))


def test_pkcs1_encryption_round_trip_and_limit(key: rsa.RsaPrivate) -> None:
    for size in (0, 1, key.size - 11):
        message = b"\0" * size
        assert key.decrypt_pkcs1(key.encrypt_pkcs1(message)) == message
    with pytest.raises(OutOfRange):
        key.encrypt_pkcs1(bytes(key.size - 10))


@pytest.mark.parametrize(
    "head",
    [
        b"\0\x01" + b"\xff" * 8 + b"\0",
        b"\x01\x02" + b"\xff" * 8 + b"\0",
        b"\0\x02" + b"\xff" * 7 + b"\0" + b"\xff" * 0,
        b"\0\x02\0",
    ],
)
def test_pkcs1_padding_of_another_form_is_an_error(key2048: rsa.RsaPrivate, head: bytes) -> None:
    """No implicit rejection: the TPM answers an error, and eight octets of padding are the least."""
    block = head + b"m" * (key2048.size - len(head))
    if block[0]:
        # Above the modulus, perhaps; this stays below it with the first octet still not zero.
        assert int.from_bytes(block, "big") < key2048.n
    with pytest.raises(BadPadding):
        key2048.decrypt_pkcs1(key2048.raw(block))


def test_pkcs1_block_without_a_separator_is_an_error(key2048: rsa.RsaPrivate) -> None:
    with pytest.raises(BadPadding):
        key2048.decrypt_pkcs1(key2048.raw(b"\0\x02" + b"\xff" * (key2048.size - 2)))


def test_raw_operations_are_modular_powers(key: rsa.RsaPrivate) -> None:
    for message in (b"", b"\x01", b"\x02", b"message", (key.n - 1).to_bytes(key.size, "big")):
        cipher = key.raw(message)
        assert int.from_bytes(cipher, "big") == pow(int.from_bytes(message, "big"), key.e, key.n)
        assert key.raw_private(cipher) == message.rjust(key.size, b"\0")


def test_values_and_sizes_out_of_range_are_refused(key: rsa.RsaPrivate) -> None:
    for operation in (key.raw, key.raw_private, key.decrypt_pkcs1):
        with pytest.raises(OutOfRange):
            operation(key.modulus)
    with pytest.raises(OutOfRange):
        key.decrypt_oaep(ids.SHA1, b"", key.modulus)
    for short in (b"", bytes(key.size - 1), bytes(key.size + 1)):
        with pytest.raises(OutOfRange):
            key.decrypt_oaep(ids.SHA1, b"", short)
        with pytest.raises(OutOfRange):
            key.decrypt_pkcs1(short)
    for sign in (key.sign_pkcs1, key.sign_pss):
        with pytest.raises(OutOfRange):
            sign(ids.SHA256, bytes(31))
        with pytest.raises(UnsupportedAlgorithm):
            sign(0x0010, bytes(32))


def test_key_parts_that_do_not_belong_together_are_refused(key2048: rsa.RsaPrivate) -> None:
    n, p, q = key2048.n, key2048.p, key2048.q
    other = make(2048, b"other")
    for bad in (0, 1, 2, p + 2, n, other.p, q * p):
        with pytest.raises(BadKey):
            rsa.RsaPrivate(n, bad)
    assert rsa.RsaPrivate(n, q).raw_private(b"\x05") == key2048.raw_private(b"\x05")
    for bits in (504, 1016, 2040, 2056):
        with pytest.raises(BadKey):
            rsa.RsaPublic((1 << bits) - 1)
    with pytest.raises(BadKey):
        rsa.RsaPublic(n + 1)
    for e in (0, 1, 2, 65536):
        with pytest.raises(BadKey):
            rsa.RsaPublic(n, e)
    # e divides p - 1, so that it has no inverse.
    e = next(e for e in range(3, 10_000, 2) if (p - 1) % e == 0 or (q - 1) % e == 0)
    with pytest.raises(BadKey):
        rsa.RsaPrivate(n, p, e)


def test_factors_that_are_not_prime_never_crash() -> None:
    """The TPM does not look whether they are (Part 1, 43.1): operations answer or raise an error of ours."""
    source = random.Random(5)
    digest = bytes(32)

    def composite(common: int) -> int:
        while True:
            n = source.getrandbits(1024) | 3 << 1022
            n -= n % common
            if n & 1 and n >> 1022 == 3 and pow(2, n - 1, n) != 1 and (n - 1) % 65537:
                return n

    for common in (1, 3):
        p, q = composite(common), composite(common)
        key = rsa.RsaPrivate(p * q, p)
        for operation in (
            lambda key=key: key.sign_pkcs1(ids.SHA256, digest),
            lambda key=key: key.sign_pss(ids.SHA256, digest),
            lambda key=key: key.raw_private(b"\x02" * 200),
            lambda key=key: key.decrypt_oaep(ids.SHA256, b"", b"\x02" * 256),
        ):
            try:
                result = operation()
            except (BadKey, BadPadding, OutOfRange):
                continue
            assert result


def test_private_key_shows_no_secret(key2048: rsa.RsaPrivate) -> None:
    assert repr(key2048) == "<RSA private key of 2048 bits>"


@pytest.mark.parametrize("bits", [512, 1024, 2048])
@pytest.mark.parametrize("e", [3, 65537])
def test_generated_primes_make_a_key_by_the_rules(bits: int, e: int) -> None:
    """FIPS 186-5, A.1.3, checked by trial division and Fermat tests of this test's own."""
    for seed in range(3):
        entropy = drbg.CtrDrbg(bytes([seed])).generate
        p, q = primes.generate_rsa(bits, e, entropy, never)
        assert (p * q).bit_length() == bits
        assert abs(p - q) > 1 << (bits // 2 - 100)
        for prime in (p, q):
            assert prime >> (bits // 2 - 2) == 3
            assert math.gcd(prime - 1, e) == 1
            assert all(prime % r for r in range(2, 5000))
            assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7, 11))
        assert pow(e, -1, (p - 1) * (q - 1)) >> (bits // 2)


def test_the_same_entropy_gives_the_same_primes() -> None:
    one, other = (primes.generate_rsa(1024, 65537, drbg.CtrDrbg(b"s").generate, never) for _ in range(2))
    assert one == other
    assert one != primes.generate_rsa(1024, 65537, drbg.CtrDrbg(b"t").generate, never)


def test_derived_primes_are_pinned() -> None:
    """A primary RSA key must come out the same in every later version of this program."""
    p, q = primes.generate_rsa(2048, 65537, Derivation(b"seed", b"use", b"template").random, never)
    assert hashlib.sha256(p.to_bytes(128, "big") + q.to_bytes(128, "big")).hexdigest() == PINNED


PINNED = "78ec58e7f379cecaada0b5a5c736b2e3b6037c519f30d796b27829a7eda67f21"


def test_search_stops_when_cancelled() -> None:
    asked = []

    def after_five() -> bool:
        asked.append(1)
        return len(asked) > 5

    with pytest.raises(Cancelled):
        primes.generate_rsa(4096, 65537, drbg.CtrDrbg(b"s").generate, after_five)
    assert len(asked) == 6


def test_miller_rabin_knows_primes_and_strong_pseudoprimes() -> None:
    entropy = drbg.CtrDrbg(b"witnesses").generate
    for n in range(5, 3000, 2):
        assert primes.is_probable_prime(n, entropy, 20) == all(n % r for r in range(2, math.isqrt(n) + 1))
    # Strong pseudoprimes to base 2, and Carmichael numbers.
    for n in (2047, 3277, 4033, 561, 1105, 3215031751, 3825123056546413051):
        assert not primes.is_probable_prime(n, entropy, 20)
    assert primes.is_probable_prime((1 << 521) - 1, entropy, 7)


def test_impossible_keys_are_refused() -> None:
    entropy = drbg.CtrDrbg(b"s").generate
    for bits, e in ((496, 65537), (1032, 65537), (1024, 1), (1024, 65536)):
        with pytest.raises(OutOfRange):
            primes.generate_rsa(bits, e, entropy, never)

"""Compression functions of the hashes: what hashlib does between two blocks and does not show.

A running hash is a *chaining value*, the octets of the message that are not a whole block yet, and their
number.  `compress` takes the chaining value over whole blocks.  For SHA-1 and SHA-2 the library underneath
hashlib does it, if it can be asked (`by_library`); all else is done here: FIPS 180-4 (SHA-1, SHA-2),
FIPS 202 (SHA-3) and GB/T 32905 (SM3).  Constants are computed as those standards define them.

Chaining values are octets as the digest is made of them: big-endian words, or the 200 octets of a sponge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from itertools import count, islice
from math import isqrt
from struct import Struct
from typing import Final

from hwtpm.crypto import hashes, ids, libcrypto

Compression = Callable[[bytes, bytes], bytes]
"""Takes a chaining value and whole blocks, and returns the next chaining value."""

_32: Final = 0xFFFFFFFF
_64: Final = 0xFFFFFFFF_FFFFFFFF
_SPONGE: Final = 200  # octets of the state of Keccak-f[1600]
_SHA1_START: Final = bytes.fromhex("67452301efcdab8998badcfe10325476c3d2e1f0")
_SM3_START: Final = bytes.fromhex("7380166f4914b2b9172442d7da8a0600a96f30bc163138aae38dee4db0fb0e4e")

_SHA3: Final = frozenset({ids.SHA3_256, ids.SHA3_384, ids.SHA3_512})
_LONG: Final = frozenset({ids.SHA384, ids.SHA512})  # 64-bit words, and a length of 128 bits


def start(alg: int) -> bytes:
    """Return the chaining value before the first block."""
    if alg in _SHA3:
        return bytes(_SPONGE)
    if alg == ids.SHA1:
        return _SHA1_START
    if alg == ids.SM3_256:
        return _SM3_START
    # FIPS 180-4, 5.3.3 to 5.3.5: the square roots of the first eight primes, for SHA-384 of the next eight.
    first = 8 if alg == ids.SHA384 else 0
    roots = [isqrt(prime << 128) & _64 for prime in _primes(first + 8)[first:]]
    if alg == ids.SHA256:
        return _EIGHT_32.pack(*[root >> 32 for root in roots])
    return _EIGHT_64.pack(*roots)


def compress(alg: int, chaining: bytes, blocks: bytes) -> bytes:
    """Return the chaining value after *blocks*, any whole number of input blocks of the hash *alg*."""
    fold = by_library(alg) or _IN_PYTHON[alg]
    return fold(chaining, blocks)


def finish(alg: int, chaining: bytes, rest: bytes, size: int) -> bytes:
    """Return the digest of a message of *size* octets: *rest* are those that *chaining* has not taken in."""
    block = hashes.block_size(alg)
    if alg in _SHA3:  # FIPS 202, 6.1 and B.2
        padding = bytearray(block - len(rest) % block)
        padding[0] = 0x06
        padding[-1] |= 0x80
    else:  # FIPS 180-4, 5.1
        counter = 16 if alg in _LONG else 8
        padding = bytearray(b"\x80" + bytes(-(len(rest) + 1 + counter) % block))
        padding += (size * 8).to_bytes(counter, "big")
    return compress(alg, chaining, rest + padding)[: hashes.size(alg)]


_CONTEXT: Final = 512  # octets, more than twice the largest context of the library
_NAMES: Final = {ids.SHA1: ("SHA1", "5I"), ids.SHA256: ("SHA256", "8I"),
                 ids.SHA384: ("SHA512", "8Q"), ids.SHA512: ("SHA512", "8Q")}


@cache
def by_library(alg: int) -> Compression | None:
    """Return the compression function of the library that hashlib uses, None if it shows none for *alg*.

    OpenSSL still has the functions of the time before EVP (SHA256_Update and its kin), whose contexts begin
    with the chaining value as words of the machine.
    """
    if alg not in _NAMES:
        return None
    name, words = _NAMES[alg]
    try:
        init = libcrypto.function(f"{name}_Init", "ib")
        update = libcrypto.function(f"{name}_Update", "ibbz", long=True)
    except libcrypto.Unreachable:
        return None
    theirs, ours = Struct(f"={words}"), Struct(f">{words}")

    def compress(chaining: bytes, blocks: bytes) -> bytes:
        context = libcrypto.buffer(_CONTEXT)
        init(context)
        theirs.pack_into(context, 0, *ours.unpack(chaining))
        update(context, blocks, len(blocks))
        return ours.pack(*theirs.unpack_from(context))

    # One block of "abc" and its padding, from what the library starts with.
    context = libcrypto.buffer(_CONTEXT)
    init(context)
    block = b"abc\x80".ljust(hashes.block_size(alg) - 1, b"\0") + bytes([len(b"abc") * 8])
    found = compress(ours.pack(*theirs.unpack_from(context)), block)
    return compress if found == hashlib.new(name, b"abc").digest() else None


_EIGHT_32: Final = Struct(">8I")
_EIGHT_64: Final = Struct(">8Q")
_FIVE_32: Final = Struct(">5I")
_SIXTEEN_32: Final = Struct(">16I")
_SIXTEEN_64: Final = Struct(">16Q")
_LANES: Final = Struct("<25Q")


def _primes(number: int) -> list[int]:
    return list(islice((n for n in count(2) if all(n % d for d in range(2, isqrt(n) + 1))), number))


def _cube_root(n: int) -> int:
    """Return the integer part of the cube root."""
    root = 1 << -(-n.bit_length() // 3)
    while (lower := (2 * root + n // (root * root)) // 3) < root:
        root = lower
    return root


@cache
def _sha2_constants() -> tuple[int, ...]:
    """The fractions of the cube roots of the first eighty primes, as 64 bits (FIPS 180-4, 4.2.3)."""
    return tuple(_cube_root(prime << 192) & _64 for prime in _primes(80))


def _left(x: int, n: int) -> int:
    return (x << n | x >> (32 - n)) & _32


def _sha1(chaining: bytes, blocks: bytes) -> bytes:
    state = _FIVE_32.unpack(chaining)
    for (*w,) in _SIXTEEN_32.iter_unpack(blocks):
        for t in range(16, 80):
            w.append(_left(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1))
        a, b, c, d, e = state
        for t in range(80):
            if t < 20:
                f, k = b & c | ~b & d, 0x5A827999
            elif 40 <= t < 60:
                f, k = b & c | b & d | c & d, 0x8F1BBCDC
            else:
                f, k = b ^ c ^ d, 0x6ED9EBA1 if t < 40 else 0xCA62C1D6
            a, b, c, d, e = (_left(a, 5) + f + e + k + w[t]) & _32, a, _left(b, 30), c, d
        state = tuple((x + y) & _32 for x, y in zip(state, (a, b, c, d, e), strict=True))
    return _FIVE_32.pack(*state)


def _sha2(chaining: bytes, blocks: bytes, words: Struct, block: Struct, rounds: int, width: int,
          turns: tuple[int, ...]) -> bytes:
    """SHA-2 with words of *width* bits; *turns* are those of the four sigma functions (FIPS 180-4, 4.1)."""
    mask = (1 << width) - 1
    constants = [k >> (64 - width) for k in _sha2_constants()[:rounds]]
    a1, a2, a3, e1, e2, e3, s1, s2, s3, s4, s5, s6 = turns

    state = words.unpack(chaining)
    for (*w,) in block.iter_unpack(blocks):
        for t in range(16, rounds):
            x, y = w[t - 15], w[t - 2]
            # Twice the word, so that a shift is a rotation; what is above the mask does not matter.
            xx, yy = x << width | x, y << width | y
            w.append((w[t - 16] + ((xx >> s1 ^ xx >> s2) & mask ^ x >> s3)
                      + w[t - 7] + ((yy >> s4 ^ yy >> s5) & mask ^ y >> s6)) & mask)
        a, b, c, d, e, f, g, h = state
        for k, word in zip(constants, w, strict=True):
            ee, aa = e << width | e, a << width | a
            one = h + ((ee >> e1 ^ ee >> e2 ^ ee >> e3) & mask) + (e & f ^ ~e & g) + k + word
            two = ((aa >> a1 ^ aa >> a2 ^ aa >> a3) & mask) + (a & b ^ a & c ^ b & c)
            a, b, c, d, e, f, g, h = (one + two) & mask, a, b, c, (d + one) & mask, e, f, g
        state = tuple((x + y) & mask for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True))
    return words.pack(*state)


def _sha256(chaining: bytes, blocks: bytes) -> bytes:
    turns = (2, 13, 22, 6, 11, 25, 7, 18, 3, 17, 19, 10)
    return _sha2(chaining, blocks, _EIGHT_32, _SIXTEEN_32, 64, 32, turns)


def _sha512(chaining: bytes, blocks: bytes) -> bytes:
    turns = (28, 34, 39, 14, 18, 41, 1, 8, 7, 19, 61, 6)
    return _sha2(chaining, blocks, _EIGHT_64, _SIXTEEN_64, 80, 64, turns)


def _sm3(chaining: bytes, blocks: bytes) -> bytes:
    """GB/T 32905, 5.3."""
    state = _EIGHT_32.unpack(chaining)
    for (*w,) in _SIXTEEN_32.iter_unpack(blocks):
        for j in range(16, 68):
            x = w[j - 16] ^ w[j - 9] ^ _left(w[j - 3], 15)
            w.append(x ^ _left(x, 15) ^ _left(x, 23) ^ _left(w[j - 13], 7) ^ w[j - 6])
        a, b, c, d, e, f, g, h = state
        for j in range(64):
            turned = _left(a, 12)
            ss1 = _left((turned + e + _left(0x79CC4519 if j < 16 else 0x7A879D8A, j % 32)) & _32, 7)
            if j < 16:
                ff, gg = a ^ b ^ c, e ^ f ^ g
            else:
                ff, gg = a & b | a & c | b & c, e & f | ~e & g
            tt1 = (ff + d + (ss1 ^ turned) + (w[j] ^ w[j + 4])) & _32
            tt2 = (gg + h + ss1 + w[j]) & _32
            a, b, c, d, e, f, g, h = (
                tt1, a, _left(b, 9), c, tt2 ^ _left(tt2, 9) ^ _left(tt2, 17), e, _left(f, 19), g)
        state = tuple(x ^ y for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True))
    return _EIGHT_32.pack(*state)


@cache
def _keccak_constants() -> tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]:
    """The constants of the rounds, and what rho and pi do: to, from, by how many bits (FIPS 202, 3.2)."""
    lfsr, rounds = 1, []
    for _ in range(24):
        constant = 0
        for j in range(7):
            if lfsr & 1:
                constant |= 1 << (1 << j) - 1
            lfsr = lfsr << 1 ^ (0x171 if lfsr & 0x80 else 0)
        rounds.append(constant)
    moves = [(0, 0, 0)]
    x, y = 1, 0
    for t in range(24):
        moves.append((y + 5 * ((2 * x + 3 * y) % 5), x + 5 * y, (t + 1) * (t + 2) // 2 % 64))
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(rounds), tuple(moves)


def _keccak(lanes: list[int]) -> list[int]:
    """Keccak-f[1600]; lane x + 5 * y is A[x, y] (FIPS 202, 3.3)."""
    rounds, moves = _keccak_constants()
    moved = [0] * 25
    for constant in rounds:
        sums = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        mixed = [sums[x - 1] ^ ((sums[x - 4] << 1 | sums[x - 4] >> 63) & _64) for x in range(5)]
        for to, taken, by in moves:
            lane = lanes[taken] ^ mixed[taken % 5]
            moved[to] = (lane << by | lane >> (64 - by)) & _64
        lanes = [moved[i] ^ ~moved[i - i % 5 + (i + 1) % 5] & moved[i - i % 5 + (i + 2) % 5]
                 for i in range(25)]
        lanes[0] ^= constant
    return lanes


def _sponge(alg: int) -> Callable[[bytes, bytes], bytes]:
    """Return the function that absorbs blocks of *alg* (FIPS 202, 4)."""
    rate = hashes.block_size(alg)

    def absorb(chaining: bytes, blocks: bytes) -> bytes:
        lanes = list(_LANES.unpack(chaining))
        for at in range(0, len(blocks), rate):
            block = _LANES.unpack(blocks[at : at + rate].ljust(_SPONGE, b"\0"))
            lanes = _keccak([x ^ y for x, y in zip(lanes, block, strict=True)])
        return _LANES.pack(*lanes)

    return absorb


_IN_PYTHON: Final[dict[int, Compression]] = {
    ids.SHA1: _sha1, ids.SHA256: _sha256, ids.SHA384: _sha512, ids.SHA512: _sha512, ids.SM3_256: _sm3,
    **{alg: _sponge(alg) for alg in _SHA3},
}

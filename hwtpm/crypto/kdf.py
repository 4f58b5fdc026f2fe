"""Key derivation functions and the XOR obfuscation built on them (Part 1, 8.4.7.3 and 8.4.10)."""

from __future__ import annotations

from hwtpm.crypto import hashes


def _leftmost(blocks: bytes, bits: int) -> bytes:
    """Cut *blocks* to whole octets for *bits*, and clear the unused high-order bits of the first.

    The bits are masked off and not shifted (Part 1, 8.4.10.2).
    """
    taken = blocks[: (bits + 7) // 8]
    spare = -bits % 8
    if spare:
        return bytes([taken[0] & (0xFF >> spare)]) + taken[1:]
    return taken


def kdfa(alg: int, key: bytes, label: bytes, context_u: bytes, context_v: bytes, bits: int) -> bytes:
    """Return *bits* bits of key material as (bits + 7) // 8 octets (Part 1, 8.4.10.2: KDFa).

    SP 800-108 counter mode with HMAC.  *label* may bring its terminating zero octet or not: one
    is added only where the last octet is not zero, or the label is empty.
    """
    if label[-1:] != b"\0":
        label += b"\0"
    tail = label + context_u + context_v + bits.to_bytes(4, "big")
    step = hashes.size(alg) * 8
    if bits <= step:
        blocks = hashes.hmac(alg, key, b"\0\0\0\x01" + tail)
    else:
        count = -(-bits // step)
        blocks = b"".join(hashes.hmac(alg, key, i.to_bytes(4, "big") + tail) for i in range(1, count + 1))
    return _leftmost(blocks, bits)


def kdfe(alg: int, z: bytes, use: bytes, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """Return *bits* bits of key material as (bits + 7) // 8 octets (Part 1, 8.4.10.3: KDFe).

    The one-step derivation of SP 800-56C with the hash itself.  *z*, *party_u* and *party_v* are
    x-coordinates, padded to the size of the curve's field; *use* is terminated with a zero octet
    here when it is not already.
    """
    if use[-1:] != b"\0":
        use += b"\0"
    tail = z + use + party_u + party_v
    count = -(-bits // (hashes.size(alg) * 8))
    blocks = b"".join(hashes.digest(alg, i.to_bytes(4, "big") + tail) for i in range(1, count + 1))
    return _leftmost(blocks, bits)


def xor_obfuscate(alg: int, key: bytes, context_u: bytes, context_v: bytes, data: bytes) -> bytes:
    """Return *data* XORed with a mask made by KDFa under the label "XOR" (Part 1, 8.4.7.3).

    The operation is its own inverse.
    """
    count = len(data)
    if not count:
        return b""
    mask = kdfa(alg, key, b"XOR\0", context_u, context_v, count * 8)
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(count, "big")


def mgf1(alg: int, seed: bytes, size: int) -> bytes:
    """Return a mask of *size* octets (RFC 8017, B.2.1)."""
    count = -(-size // hashes.size(alg))
    return b"".join(hashes.digest(alg, seed, i.to_bytes(4, "big")) for i in range(count))[:size]


def kdf2(alg: int, secret: bytes, size: int) -> bytes:
    """Return *size* octets derived from a secret (ISO/IEC 18033-2, 6.2.3: MGF1 that counts from one)."""
    count = -(-size // hashes.size(alg))
    return b"".join(hashes.digest(alg, secret, i.to_bytes(4, "big")) for i in range(1, count + 1))[:size]

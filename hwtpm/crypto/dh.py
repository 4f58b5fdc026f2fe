"""Diffie-Hellman over the 2048-bit MODP group (RFC 3526, section 3: group 14), its generator being 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hwtpm.crypto import hashes, ids
from hwtpm.crypto.errors import OutOfRange

SIZE: Final = 256
"""Octets of a public value, big-endian."""
SECRET_SIZE: Final = 64
"""Octets of a private exponent: more than twice the strength of the group (RFC 3526, section 8)."""

# 2^2048 - 2^1984 - 1 + 2^64 * ([2^1918 pi] + 124476)
PRIME: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF", 16)


class Exchange:
    """One side of an exchange; `public` is what the other side gets."""

    __slots__ = ("_secret", "public")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._secret = int.from_bytes(entropy(SECRET_SIZE), "big") | 1 << 8 * SECRET_SIZE
        self.public = _power(2, self._secret)

    def __repr__(self) -> str:
        return "<one side of a Diffie-Hellman exchange>"

    def key(self, theirs: bytes) -> bytes:
        """Return SHA-256 of the secret shared with the side whose public value is *theirs*, 32 octets.

        OutOfRange for a value of another size, or one that gives the secret away: 0, 1 and those that are
        not less than p - 1 (NIST SP 800-56A, 5.6.2.3.1).
        """
        value = int.from_bytes(theirs, "big")
        if len(theirs) != SIZE or not 1 < value < PRIME - 1:
            raise OutOfRange("not a public value of the 2048-bit MODP group")
        return hashes.digest(ids.SHA256, _power(value, self._secret))


def _power(base: int, exponent: int) -> bytes:
    import gmpy2

    gmpy2.get_context().allow_release_gil = True
    # powmod_sec takes the same time for every exponent of one size.
    return int(gmpy2.powmod_sec(base, exponent, PRIME)).to_bytes(SIZE, "big")

"""What a primary seed gives: the secrets of primary objects, by the specification's KDF."""

from __future__ import annotations

from typing import Final

from hwtpm.crypto import hashes
from hwtpm.crypto.ids import SHA512
from hwtpm.crypto.kdf import kdfa

_CHUNK: Final = 128  # octets of one KDFa


class Derivation:
    """The source of the sensitive values of one primary object (Part 1, 24.6.3).

    Each instance made of the same primary seed, use and template gives the same octets in the same order, so
    that the same template makes the same key again.  The specification leaves the generator to the vendor;
    this one is KDFa with SHA-512: the seed is its key, the use its label, the template's digest and a count
    of calls its contexts.
    """

    __slots__ = ("_calls", "_key", "_ready", "_template", "_use")

    def __init__(self, seed: bytes, use: bytes, template: bytes) -> None:
        """Start from a primary seed, a string without zero octets that names the use, and a digest."""
        self._key, self._use, self._template = seed, use, template
        self._calls = 0
        self._ready = b""

    def random(self, size: int) -> bytes:
        """Return the next *size* octets."""
        while len(self._ready) < size:
            count = self._calls.to_bytes(4, "big")
            self._ready += kdfa(SHA512, self._key, self._use, self._template, count, _CHUNK * 8)
            self._calls += 1
        taken, self._ready = self._ready[:size], self._ready[size:]
        return taken

    def mix(self, data: bytes) -> None:
        """Let all that follows depend on *data* also.

        For the endorsement hierarchy: between the sensitive value and seedValue goes the proof of the storage
        hierarchy, so that children of an old storage seed cannot be loaded, while the key stays the same
        (Part 1, 24.7.4).
        """
        self._key = hashes.hmac(SHA512, self._key, data)
        self._ready = b""

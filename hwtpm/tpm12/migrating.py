"""Private keys on their way to another parent (Part 3, 11.1 and 11.2; Part 2, 10.8).

The private part is encoded like a message of OAEP, with a part of the key itself as the seed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hwtpm.crypto import ids, oaep
from hwtpm.errors import TpmError
from hwtpm.tpm12.types.base import TPM_DIGEST_SIZE
from hwtpm.tpm12.types.codes import TPM_BAD_MIGRATION, TPM_DECRYPT_ERROR
from hwtpm.tpm12.types.key import TPM_MIGRATE_ASYMKEY, TPM_STORE_ASYMKEY, TPM_STORE_PRIVKEY
from hwtpm.wire import decode, encode

_SEED: Final = TPM_DIGEST_SIZE


class Migrating(NamedTuple):
    """What an encoding contains: *p_hash* is what its maker has put there, for checks or as a secret."""

    usage_auth: bytes
    pub_data_digest: bytes
    prime: bytes
    p_hash: bytes

    def stored(self, payload: int, migration_auth: bytes) -> TPM_STORE_ASYMKEY:
        """Return the private part that the key has where it has arrived."""
        return TPM_STORE_ASYMKEY(payload, self.usage_auth, migration_auth, self.pub_data_digest, self.prime)


def pack(stored: TPM_STORE_ASYMKEY, payload: int, p_hash: bytes) -> bytes:
    """Return the encoding of *stored*: 198 octets for a key of 2048 bits."""
    private = encode(TPM_STORE_PRIVKEY(stored.priv_key))
    message = encode(TPM_MIGRATE_ASYMKEY(payload, stored.usage_auth, stored.pub_data_digest, private[_SEED:]))
    return oaep.mask(ids.SHA1, private[:_SEED], p_hash + b"\1" + message)


def unpack(octets: bytes, payload: int) -> Migrating:
    """Return what `pack` was given.

    TPM_DECRYPT_ERROR for octets that are no such encoding, TPM_BAD_MIGRATION for one of another *payload*.
    """
    if len(octets) < _SEED + TPM_DIGEST_SIZE:
        raise TpmError(TPM_DECRYPT_ERROR)
    seed, block = oaep.unmask(ids.SHA1, octets)
    message = block[TPM_DIGEST_SIZE:].lstrip(b"\0")
    if message[:1] != b"\1":
        raise TpmError(TPM_DECRYPT_ERROR)
    found = decode(TPM_MIGRATE_ASYMKEY, message[1:])
    if found.payload != payload:
        raise TpmError(TPM_BAD_MIGRATION)
    private = decode(TPM_STORE_PRIVKEY, seed + found.part_priv_key)
    return Migrating(found.usage_auth, found.pub_data_digest, private.key, block[:TPM_DIGEST_SIZE])


def xor(one: bytes, other: bytes) -> bytes:
    """Return the difference of two strings of the same length."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))

"""State blobs as swtpm wraps them: a header, and in it tagged data that two keys may encrypt.

    header                UINT8 version, UINT8 min_version, UINT16 hdrsize, UINT16 flags, UINT32 totlen
    tagged datum          UINT16 tag, UINT32 size, then the data

All is big-endian.  Inside the header is one MIGRATION_DATA, whose content is one DATA, whose content is the
TPM's own encoding of its state.  A key replaces its layer by three data: the same, encrypted with AES in CBC
mode, the HMAC-SHA256 of ciphertext and IV under the same key, and the IV.  Only what is innermost is not
swtpm's, so a blob of the one program is understood as a blob, and refused as a state, by the other.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple

from cusetpm.devices.swtpm.abi import (
    TPM_BAD_DATASIZE,
    TPM_BAD_KEY_PROPERTY,
    TPM_BAD_PARAMETER,
    TPM_BAD_VERSION,
    TPM_DECRYPT_ERROR,
    TPM_FAIL,
    TPM_KEYNOTFOUND,
)
from hwtpm.crypto import hashes, ids, symmetric
from hwtpm.errors import TpmError

VERSION: Final = 2
_MIN_VERSION: Final = 1
_HEADER: Final = Struct(">BBHHI")
_TLV: Final = Struct(">HI")

BLOB_FLAG_ENCRYPTED: Final = 0x01
BLOB_FLAG_MIGRATION_ENCRYPTED: Final = 0x02
BLOB_FLAG_MIGRATION_DATA: Final = 0x04
BLOB_FLAG_ENCRYPTED_256BIT_KEY: Final = 0x08
BLOB_FLAG_MIGRATION_256BIT_KEY: Final = 0x10

TAG_HMAC: Final = 3


class _Layer(NamedTuple):
    """One layer of tagged data: its tags in the clear, encrypted, and of the IV; its flags in the header."""

    data: int
    encrypted: int
    ivec: int
    flag: int
    flag_256: int


_STATE: Final = _Layer(1, 2, 6, BLOB_FLAG_ENCRYPTED, BLOB_FLAG_ENCRYPTED_256BIT_KEY)
_MIGRATION: Final = _Layer(4, 5, 7, BLOB_FLAG_MIGRATION_ENCRYPTED, BLOB_FLAG_MIGRATION_256BIT_KEY)


class Keys(NamedTuple):
    """What state is encrypted with outside of the TPM: 16 or 32 octets each, empty for none.

    The *file* key is that of the state at rest, the *migration* key that of blobs on their way.
    """

    file: bytes = b""
    migration: bytes = b""

    def __repr__(self) -> str:
        return f"Keys(file={bool(self.file)}, migration={bool(self.migration)})"


def wrap(state: bytes, keys: Keys, random: Callable[[int], bytes], *, decrypted: bool) -> tuple[bytes, bool]:
    """Return *state* as a blob, and whether the file key encrypts it, which it does unless *decrypted*."""
    file_key = b"" if decrypted else keys.file
    inner, flags = _close(_STATE, state, file_key, random)
    outer, more = _close(_MIGRATION, inner, keys.migration, random)
    flags |= more | BLOB_FLAG_MIGRATION_DATA
    header = _HEADER.pack(VERSION, _MIN_VERSION, _HEADER.size, flags, _HEADER.size + len(outer))
    return header + outer, bool(file_key)


def unwrap(blob: bytes, keys: Keys, *, encrypted: bool = False) -> bytes:
    """Return the state in *blob*, empty for a blob without any.

    It is encrypted with the file key if its header says so, or *encrypted*.  Raises TpmError with one of
    swtpm's results: TPM_BAD_PARAMETER, TPM_BAD_VERSION or TPM_BAD_DATASIZE for the header, TPM_FAIL for what
    is in it, TPM_KEYNOTFOUND without the key, TPM_BAD_KEY_PROPERTY for one of the wrong size,
    TPM_DECRYPT_ERROR for a wrong one.
    """
    if not blob:
        return b""
    if len(blob) < _HEADER.size:
        raise TpmError(TPM_BAD_PARAMETER)
    version, min_version, size, flags, total = _HEADER.unpack_from(blob)
    if total != len(blob):
        raise TpmError(TPM_BAD_PARAMETER)
    if min_version > VERSION:
        raise TpmError(TPM_BAD_VERSION)
    if size != _HEADER.size:
        raise TpmError(TPM_BAD_DATASIZE)
    if total == size:
        return b""
    if version != VERSION:
        raise TpmError(TPM_FAIL)
    inner = _open(_MIGRATION, blob[size:], keys.migration, flags, encrypted=bool(flags & _MIGRATION.flag))
    return _open(_STATE, inner, keys.file, flags, encrypted=encrypted or bool(flags & _STATE.flag))


def _close(layer: _Layer, data: bytes, key: bytes, random: Callable[[int], bytes]) -> tuple[bytes, int]:
    """Return *data* as tagged data of *layer*, and the flags for the header."""
    if not key:
        return _tagged(layer.data, data), 0
    # The padding goes by the size of the key, and so does the IV, of which the cipher takes one block.
    pad = len(key) - len(data) % len(key)
    iv = random(len(key))
    sealed, _ = symmetric.encrypt(ids.AES, ids.CBC, key, iv[: symmetric.BLOCK], data + bytes([pad]) * pad)
    check = hashes.hmac(ids.SHA256, key, sealed, iv)
    flags = layer.flag | (layer.flag_256 if len(key) == 32 else 0)
    return _tagged(layer.encrypted, sealed) + _tagged(TAG_HMAC, check) + _tagged(layer.ivec, iv), flags


def _open(layer: _Layer, octets: bytes, key: bytes, flags: int, *, encrypted: bool) -> bytes:
    found = _untagged(octets)
    if not encrypted:
        if layer.data not in found:
            raise TpmError(TPM_FAIL)
        return found[layer.data]
    if not key:
        raise TpmError(TPM_KEYNOTFOUND)
    if len(key) != (32 if flags & layer.flag_256 else 16):
        raise TpmError(TPM_BAD_KEY_PROPERTY)
    try:
        sealed, check, iv = found[layer.encrypted], found[TAG_HMAC], found.get(layer.ivec, bytes(len(key)))
    except KeyError:
        raise TpmError(TPM_FAIL) from None
    # A blob without an IV was made with one of zero, which its HMAC does not contain.
    parts = (sealed, iv) if layer.ivec in found else (sealed,)
    if not hmac.compare_digest(hashes.hmac(ids.SHA256, key, *parts), check):
        raise TpmError(TPM_DECRYPT_ERROR)
    if not sealed or len(sealed) % symmetric.BLOCK or len(iv) < symmetric.BLOCK:
        raise TpmError(TPM_DECRYPT_ERROR)
    padded, _ = symmetric.decrypt(ids.AES, ids.CBC, key, iv[: symmetric.BLOCK], sealed)
    pad = padded[-1]
    if not 0 < pad <= len(key) or padded[-pad:] != bytes([pad]) * pad:
        raise TpmError(TPM_DECRYPT_ERROR)
    return padded[:-pad]


def _tagged(tag: int, data: bytes) -> bytes:
    return _TLV.pack(tag, len(data)) + data


def _untagged(octets: bytes) -> dict[int, bytes]:
    """Return the first datum of each tag, up to one that is cut short."""
    found: dict[int, bytes] = {}
    off = 0
    while off + _TLV.size <= len(octets):
        tag, size = _TLV.unpack_from(octets, off)
        off += _TLV.size
        if off + size > len(octets):
            break
        found.setdefault(tag, octets[off : off + size])
        off += size
    return found

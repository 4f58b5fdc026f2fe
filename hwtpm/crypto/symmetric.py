"""Block ciphers in the TPM's modes, with the chaining value that EncryptDecrypt returns (Part 3, 15.2).

AES and Camellia, both with 16-octet blocks and keys of 128, 192 or 256 bits.  The mode CFB is
CFB-128 everywhere in a TPM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB, OFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR, ECB

from hwtpm.crypto import ids
from hwtpm.crypto.errors import OutOfRange, UnsupportedAlgorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives._cipheralgorithm import BlockCipherAlgorithm
    from cryptography.hazmat.primitives.ciphers.modes import ModeWithInitializationVector

BLOCK: Final = 16
"""The block size in octets of every cipher here, and the size of an IV."""

MODES: Final = (ids.CTR, ids.OFB, ids.CBC, ids.CFB, ids.ECB)
ALGORITHMS: Final = (ids.AES, ids.CAMELLIA)
KEY_BITS: Final = (128, 192, 256)


def _algorithm(alg: int, key: bytes) -> BlockCipherAlgorithm:
    if len(key) not in (16, 24, 32):
        raise OutOfRange(f"a symmetric key of {len(key)} octets")
    if alg == ids.AES:
        return AES(key)
    if alg == ids.CAMELLIA:
        from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia

        return Camellia(key)
    raise UnsupportedAlgorithm(f"no symmetric algorithm 0x{alg:04x}")


def _mode(mode: int, iv: bytes, size: int) -> ModeWithInitializationVector | CTR | ECB:
    """Return the library's mode object after the size checks of Part 3, 15.2 (Table 64)."""
    if mode in (ids.CBC, ids.ECB) and size % BLOCK:
        raise OutOfRange(f"{size} octets are not a whole number of blocks")
    if len(iv) != (0 if mode == ids.ECB else BLOCK):
        raise OutOfRange(f"an IV of {len(iv)} octets")
    if mode == ids.CFB:
        return CFB(iv)
    if mode == ids.CTR:
        return CTR(iv)
    if mode == ids.OFB:
        return OFB(iv)
    if mode == ids.CBC:
        return CBC(iv)
    if mode == ids.ECB:
        return ECB()  # noqa: S305 - TPM_ALG_ECB is a mode of EncryptDecrypt; who uses it chose it
    raise UnsupportedAlgorithm(f"no symmetric mode 0x{mode:04x}")


def _last_block(data: bytes, iv: bytes) -> bytes:
    """Return the last block of *data*, a partial one padded with zeros; *iv* when there is none."""
    if not data:
        return iv
    return data[(len(data) - 1) // BLOCK * BLOCK :].ljust(BLOCK, b"\0")


def _advance(iv: bytes, size: int) -> bytes:
    """Return the counter after *size* octets: all 128 bits are one big-endian integer."""
    count = int.from_bytes(iv, "big") + -(-size // BLOCK)
    return (count & ((1 << 128) - 1)).to_bytes(BLOCK, "big")


def _ofb(alg: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Run OFB over whole blocks, so that the last block of the key stream is known in full."""
    method = _algorithm(alg, key)
    if not data:
        return b"", iv
    padded = data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")
    out = Cipher(method, OFB(iv)).encryptor().update(padded)
    stream = int.from_bytes(out[-BLOCK:], "big") ^ int.from_bytes(padded[-BLOCK:], "big")
    return out[: len(data)], stream.to_bytes(BLOCK, "big")


def _ctr(alg: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Run CTR; encryption and decryption are the same."""
    end = _advance(iv, len(data))
    if alg == ids.AES:
        return Cipher(_algorithm(alg, key), CTR(iv)).encryptor().update(data), end
    # The library has no counter mode for Camellia: encrypt the counters one by one.
    counters = b"".join(_advance(iv, at) for at in range(0, len(data), BLOCK))
    stream = encrypt(alg, ids.ECB, key, b"", counters)[0][: len(data)]
    out = int.from_bytes(stream, "big") ^ int.from_bytes(data, "big")
    return out.to_bytes(len(data), "big"), end


def encrypt(alg: int, mode: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the ciphertext and the chaining value that continues the message (Part 3, Table 64).

    *iv* is 16 octets, or empty for ECB.  The chaining value is: the next counter (CTR), the last
    key stream block (OFB), the last ciphertext block (CBC, CFB; a partial one padded with zeros),
    empty (ECB), and *iv* itself when *data* is empty.  OutOfRange for a wrong size of key, IV or
    data; UnsupportedAlgorithm for an unknown cipher or mode.
    """
    method = _mode(mode, iv, len(data))
    if mode == ids.OFB:
        return _ofb(alg, key, iv, data)
    if mode == ids.CTR:
        return _ctr(alg, key, iv, data)
    out = Cipher(_algorithm(alg, key), method).encryptor().update(data)
    return out, b"" if mode == ids.ECB else _last_block(out, iv)


def decrypt(alg: int, mode: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the plaintext and the chaining value; sizes, values and errors as in `encrypt`."""
    method = _mode(mode, iv, len(data))
    if mode == ids.OFB:
        return _ofb(alg, key, iv, data)
    if mode == ids.CTR:
        return _ctr(alg, key, iv, data)
    out = Cipher(_algorithm(alg, key), method).decryptor().update(data)
    return out, b"" if mode == ids.ECB else _last_block(data, iv)


def cfb_encrypt(alg: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return *data* encrypted in CFB mode; *iv* is 16 octets, *data* any size.

    For parameter encryption and protected objects, which need no chaining value (Part 1, 18.3).
    """
    if len(iv) != BLOCK:
        raise OutOfRange(f"an IV of {len(iv)} octets")
    return Cipher(_algorithm(alg, key), CFB(iv)).encryptor().update(data)


def cfb_decrypt(alg: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return *data* decrypted in CFB mode; the inverse of `cfb_encrypt`."""
    if len(iv) != BLOCK:
        raise OutOfRange(f"an IV of {len(iv)} octets")
    return Cipher(_algorithm(alg, key), CFB(iv)).decryptor().update(data)

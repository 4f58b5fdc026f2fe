"""Block ciphers in the TPM's modes, with the chaining value that EncryptDecrypt returns (Part 3, 15.2).

AES and Camellia have blocks of 16 octets and keys of 128, 192 or 256 bits, TDES has blocks of 8
octets and keys of 128 or 192 bits, parity included.  The mode CFB feeds back whole blocks
everywhere in a TPM.  CMAC is that of SP 800-38B.
"""

from __future__ import annotations

from itertools import pairwise
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
"""The size in octets of the largest block, which AES and Camellia have."""

MODES: Final = (ids.CTR, ids.OFB, ids.CBC, ids.CFB, ids.ECB)
KEY_SIZES: Final = {ids.AES: (16, 24, 32), ids.CAMELLIA: (16, 24, 32), ids.TDES: (16, 24)}
"""The sizes in octets of the keys of each cipher."""
ALGORITHMS: Final = tuple(KEY_SIZES)


def block_size(alg: int) -> int:
    """Return the size in octets of a block, and of an IV, of the cipher *alg*."""
    return 8 if alg == ids.TDES else BLOCK


def _algorithm(alg: int, key: bytes) -> BlockCipherAlgorithm:
    if alg not in KEY_SIZES:
        raise UnsupportedAlgorithm(f"no symmetric algorithm 0x{alg:04x}")
    if len(key) not in KEY_SIZES[alg]:
        raise OutOfRange(f"a symmetric key of {len(key)} octets")
    if alg == ids.AES:
        return AES(key)
    from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia, TripleDES

    if alg == ids.CAMELLIA:
        return Camellia(key)
    # With two keys the first is used again as the third (SP 800-67, 3.1).
    return TripleDES(key if len(key) == 24 else key + key[:8])


def _mode(alg: int, mode: int, iv: bytes, size: int) -> ModeWithInitializationVector | CTR | ECB:
    """Return the library's mode object after the size checks of Part 3, 15.2 (Table 64)."""
    block = block_size(alg)
    if mode in (ids.CBC, ids.ECB) and size % block:
        raise OutOfRange(f"{size} octets are not a whole number of blocks")
    if len(iv) != (0 if mode == ids.ECB else block):
        raise OutOfRange(f"an IV of {len(iv)} octets")
    if mode == ids.CFB:
        return CFB(iv)
    if mode == ids.CTR:
        return ECB() if block != BLOCK else CTR(iv)  # noqa: S305 - see _ctr
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
    block = len(iv)
    return data[(len(data) - 1) // block * block :].ljust(block, b"\0")


def _advance(iv: bytes, size: int) -> bytes:
    """Return the counter after *size* octets: all bits of it are one big-endian integer."""
    block = len(iv)
    count = int.from_bytes(iv, "big") + -(-size // block)
    return (count & ((1 << 8 * block) - 1)).to_bytes(block, "big")


def _ofb(alg: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Run OFB over whole blocks, so that the last block of the key stream is known in full."""
    method = _algorithm(alg, key)
    if not data:
        return b"", iv
    block = len(iv)
    padded = data.ljust(-(-len(data) // block) * block, b"\0")
    out = Cipher(method, OFB(iv)).encryptor().update(padded)
    stream = int.from_bytes(out[-block:], "big") ^ int.from_bytes(padded[-block:], "big")
    return out[: len(data)], stream.to_bytes(block, "big")


def _ctr(alg: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Run CTR; encryption and decryption are the same."""
    end = _advance(iv, len(data))
    if alg == ids.AES:
        return Cipher(_algorithm(alg, key), CTR(iv)).encryptor().update(data), end
    # The library has no counter mode for the others: encrypt the counters one by one.
    counters = b"".join(_advance(iv, at) for at in range(0, len(data), len(iv)))
    stream = encrypt(alg, ids.ECB, key, b"", counters)[0][: len(data)]
    out = int.from_bytes(stream, "big") ^ int.from_bytes(data, "big")
    return out.to_bytes(len(data), "big"), end


def encrypt(alg: int, mode: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the ciphertext and the chaining value that continues the message (Part 3, Table 64).

    *iv* is one block, or empty for ECB.  The chaining value is: the next counter (CTR), the last
    key stream block (OFB), the last ciphertext block (CBC, CFB; a partial one padded with zeros),
    empty (ECB), and *iv* itself when *data* is empty.  OutOfRange for a wrong size of key, IV or
    data; UnsupportedAlgorithm for an unknown cipher or mode.
    """
    method = _mode(alg, mode, iv, len(data))
    if mode == ids.OFB:
        return _ofb(alg, key, iv, data)
    if mode == ids.CTR:
        return _ctr(alg, key, iv, data)
    out = Cipher(_algorithm(alg, key), method).encryptor().update(data)
    return out, b"" if mode == ids.ECB else _last_block(out, iv)


def decrypt(alg: int, mode: int, key: bytes, iv: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the plaintext and the chaining value; sizes, values and errors as in `encrypt`."""
    method = _mode(alg, mode, iv, len(data))
    if mode == ids.OFB:
        return _ofb(alg, key, iv, data)
    if mode == ids.CTR:
        return _ctr(alg, key, iv, data)
    out = Cipher(_algorithm(alg, key), method).decryptor().update(data)
    return out, b"" if mode == ids.ECB else _last_block(data, iv)


def cfb_encrypt(alg: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return *data* encrypted in CFB mode; *iv* is one block, *data* any size.

    For parameter encryption and protected objects, which need no chaining value (Part 1, 18.3).
    """
    if len(iv) != block_size(alg):
        raise OutOfRange(f"an IV of {len(iv)} octets")
    return Cipher(_algorithm(alg, key), CFB(iv)).encryptor().update(data)


def cfb_decrypt(alg: int, key: bytes, iv: bytes, data: bytes) -> bytes:
    """Return *data* decrypted in CFB mode; the inverse of `cfb_encrypt`."""
    if len(iv) != block_size(alg):
        raise OutOfRange(f"an IV of {len(iv)} octets")
    return Cipher(_algorithm(alg, key), CFB(iv)).decryptor().update(data)


def cmac(alg: int, key: bytes, data: bytes) -> bytes:
    """Return the CMAC of *data*, one block of the cipher."""
    from cryptography.hazmat.primitives.cmac import CMAC

    whole = CMAC(_algorithm(alg, key))
    whole.update(data)
    return whole.finalize()


def _odd(octet: int) -> int:
    return octet & 0xFE | (octet >> 1).bit_count() & 1 ^ 1


# Each is its own inverse, or one of a pair of inverses (SP 800-67, 3.3.2).
_WEAK_DES_KEYS: Final = frozenset(map(bytes.fromhex, (
    "0101010101010101", "fefefefefefefefe", "e0e0e0e0f1f1f1f1", "1f1f1f1f0e0e0e0e",
    "011f011f010e010e", "1f011f010e010e01", "01e001e001f101f1", "e001e001f101f101",
    "01fe01fe01fe01fe", "fe01fe01fe01fe01", "1fe01fe00ef10ef1", "e01fe01ff10ef10e",
    "1ffe1ffe0efe0efe", "fe1ffe1ffe0efe0e", "e0fee0fef1fef1fe", "fee0fee0fef1fef1",
)))


def with_parity(key: bytes) -> bytes:
    """Return a TDES key whose octets have odd parity: the lowest bit of each is changed if need be."""
    return bytes(map(_odd, key))


def is_tdes_key(key: bytes) -> bool:
    """Say whether no DES key in it equals the one before it or is weak; whatever the parity is."""
    whole = with_parity(key)
    parts = [whole[at : at + 8] for at in range(0, len(whole), 8)]
    repeated = any(one == next_one for one, next_one in pairwise(parts))
    return not repeated and _WEAK_DES_KEYS.isdisjoint(parts)

"""Known answers of the algorithms (Part 1, 9.3).

The vectors are those of FIPS 180-4 ("abc"), RFC 4231 (case 2), SP 800-38A (F.1.1 to F.5.1) and, for RSA, of a
key made for this purpose with an independent program.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from hwtpm.crypto import hashes, ids, symmetric
from hwtpm.tpm2.types.constants import (
    TPM_ALG_AES,
    TPM_ALG_ECC,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_HMAC,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
)

_ABC: Final = {
    ids.SHA1: "a9993e364706816aba3e25717850c26c9cd0d89d",
    ids.SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ids.SHA384: "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                "8086072ba1e7cc2358baeca134c825a7",
    ids.SHA512: "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
}
_HMAC: Final = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
_AES_KEY: Final = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
_AES_BLOCK: Final = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
_IV: Final = bytes(range(16))
_AES_MODES: Final = {
    ids.CTR: (bytes(range(0xF0, 0x100)), "874d6191b620e3261bef6864990db6ce"),
    ids.OFB: (_IV, "3b3fd92eb72dad20333449f8e83cfb4a"),
    ids.CBC: (_IV, "7649abac8119b246cee98e9b12e9197d"),
    ids.CFB: (_IV, "3b3fd92eb72dad20333449f8e83cfb4a"),
    ids.ECB: (b"", "3ad77bb40d7a3660a89ecaf32466ef97"),
}
_RSA_N: Final = int(
    "bc47ed247d46b7cf3d00a5a3dcdf14af5b22c67bf322a919b084e5369bc7248edb093c7706cfb1f94318729307a4abf7"
    "fabb68963d3983957e5a23ec81bf82842212736f605015f57ca56fb96f350dc754d2516ebad016f5842ce5c17bff068c"
    "a4feafe5efb745a5f7022b75c4016bef2a88a7a4d9b4c5a6bc2e0144143539f1", 16)
_RSA_P: Final = int(
    "e2d15972ea69fcc2162e2e8cac2e5f3218c0cb8bb43f773e5512ff67fedda42b39b5e2a8d1fc777b89109dc3ffdfba80"
    "e69cdaa8656ac3e9ebb9c8084f9898cf", 16)
_RSASSA: Final = (
    "6a0274c63ad145f5f4ec20ab78fa377456f8e9c3b0b56cdc50d749e1ab7829ba3083d45b12d76bdf59473f45e63baf01"
    "10ec2ea9b859c332f6047cc977e73b02ade96c9a1b2bd55f9ced343d1823d1d98e20ea8a9dd8d6154fc9aeeb33d02d7c"
    "b2be7b9cf9018f9bdc739161522b34ab7a7d205a618dada4c728f83a153e8e0e")


def _hash(alg: int) -> bool:
    return hashes.digest(alg, b"abc").hex() == _ABC[alg]


def _hmac() -> bool:
    return hashes.hmac(ids.SHA256, b"Jefe", b"what do ya want for nothing?").hex() == _HMAC


def _aes(mode: int) -> bool:
    iv, cipher = _AES_MODES[mode]
    return (symmetric.encrypt(ids.AES, mode, _AES_KEY, iv, _AES_BLOCK)[0].hex() == cipher
            and symmetric.decrypt(ids.AES, mode, _AES_KEY, iv, bytes.fromhex(cipher))[0] == _AES_BLOCK)


def _aes_modes() -> bool:
    return all(map(_aes, _AES_MODES))


def _rsa(scheme: int) -> bool:
    from hwtpm.crypto.rsa import RsaPrivate

    key = RsaPrivate(_RSA_N, _RSA_P)
    digest = hashes.digest(ids.SHA256, b"abc")
    if scheme == TPM_ALG_RSASSA:
        return key.sign_pkcs1(ids.SHA256, digest).hex() == _RSASSA
    if scheme == TPM_ALG_RSAPSS:
        key.verify_pss(ids.SHA256, digest, key.sign_pss(ids.SHA256, digest))
        return True
    if scheme == TPM_ALG_OAEP:
        return key.decrypt_oaep(ids.SHA256, b"", key.encrypt_oaep(ids.SHA256, b"", digest)) == digest
    if scheme == TPM_ALG_RSAES:
        return key.decrypt_pkcs1(key.encrypt_pkcs1(digest)) == digest
    return key.raw_private(key.raw(b"\x02".rjust(key.size, b"\0"))) == b"\x02".rjust(key.size, b"\0")


def _ecc(scheme: int) -> bool:
    from hwtpm.crypto.ecc import EccPrivate, EccPublic

    one, two = EccPrivate(ids.NIST_P256, 1), EccPrivate(ids.NIST_P256, 2)
    if scheme == TPM_ALG_ECDSA:
        digest = hashes.digest(ids.SHA256, b"abc")
        EccPublic(ids.NIST_P256, *two.public).verify(digest, *two.sign(digest))
        return True
    return two.shared_x(*one.public) == two.public[0] == one.shared_x(*two.public)


TESTS: Final[dict[int, Callable[[], bool]]] = {
    TPM_ALG_RSA: partial(_rsa, TPM_ALG_RSA),
    ids.SHA1: partial(_hash, ids.SHA1),
    TPM_ALG_HMAC: _hmac,
    TPM_ALG_AES: _aes_modes,
    ids.SHA256: partial(_hash, ids.SHA256),
    ids.SHA384: partial(_hash, ids.SHA384),
    ids.SHA512: partial(_hash, ids.SHA512),
    **{scheme: partial(_rsa, scheme) for scheme in (TPM_ALG_RSASSA, TPM_ALG_RSAES, TPM_ALG_RSAPSS,
                                                    TPM_ALG_OAEP)},
    **{scheme: partial(_ecc, scheme) for scheme in (TPM_ALG_ECDSA, TPM_ALG_ECDH, TPM_ALG_ECC)},
    **{mode: partial(_aes, mode) for mode in sorted(_AES_MODES)},
}
"""The test of each algorithm that has one, in the order of the identifiers; False means a wrong answer."""

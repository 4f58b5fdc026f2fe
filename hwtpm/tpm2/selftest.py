"""Known answers of the algorithms (Part 1, 9.3).

The vectors are those of FIPS 180-4, FIPS 202 and GB/T 32905 ("abc"), RFC 4231 (case 2), SP 800-38A (F.1.1 to
F.5.1), RFC 3713 (Camellia), SP 800-67 (B.1), RFC 4493 (example 2), GB/T 32918.5 (annex A) and, for RSA, of a
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
    TPM_ALG_ECDAA,
    TPM_ALG_ECDH,
    TPM_ALG_ECDSA,
    TPM_ALG_ECSCHNORR,
    TPM_ALG_HMAC,
    TPM_ALG_OAEP,
    TPM_ALG_RSA,
    TPM_ALG_RSAES,
    TPM_ALG_RSAPSS,
    TPM_ALG_RSASSA,
    TPM_ALG_SM2,
)

_ABC: Final = {
    ids.SHA1: "a9993e364706816aba3e25717850c26c9cd0d89d",
    ids.SHA256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ids.SHA384: "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
                "8086072ba1e7cc2358baeca134c825a7",
    ids.SHA512: "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
                "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ids.SM3_256: "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
    ids.SHA3_256: "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
    ids.SHA3_384: "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b2"
                  "98d88cea927ac7f539f1edf228376d25",
    ids.SHA3_512: "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e"
                  "10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
}
_CAMELLIA_KEY: Final = bytes.fromhex("0123456789abcdeffedcba9876543210")
_CAMELLIA: Final = "67673138549669730857065648eabe43"
_TDES_KEY: Final = bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123")
_TDES: Final = "a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900"
_CMAC: Final = "070a16b46b4d4144f79bdd9dd04a287c"
_SM2_KEY: Final = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
_SM2_NONCE: Final = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
_SM2_DIGEST: Final = bytes.fromhex("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640")
_SM2: Final = ("f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3",
               "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa")
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


def _ecb(alg: int, key: bytes, text: bytes, cipher: str) -> bool:
    return symmetric.encrypt(alg, ids.ECB, key, b"", text)[0].hex() == cipher


def _cmac() -> bool:
    return symmetric.cmac(ids.AES, _AES_KEY, _AES_BLOCK).hex() == _CMAC


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


def _fixed(scalar: int) -> Callable[[int], bytes]:
    """Return the entropy of which a nonce becomes *scalar*."""
    return lambda size: (scalar - 1).to_bytes(size, "big")


def _sm2() -> bool:
    from hwtpm.crypto import ecsign
    from hwtpm.crypto.ecc import EccPrivate

    r, s = ecsign.sm2_sign(EccPrivate(ids.SM2_P256, _SM2_KEY), _SM2_DIGEST, _fixed(_SM2_NONCE))
    return (r.hex(), s.hex()) == _SM2


def _schnorr() -> bool:
    from hwtpm.crypto import ecsign
    from hwtpm.crypto.ecc import EccPrivate, EccPublic

    key, digest = EccPrivate(ids.NIST_P256, 2), hashes.digest(ids.SHA256, b"abc")
    signature = ecsign.schnorr_sign(key, ids.SHA256, digest, _fixed(3))
    ecsign.schnorr_verify(EccPublic(ids.NIST_P256, *key.public), ids.SHA256, digest, *signature)
    return True


def _ecdaa() -> bool:
    """[s]G = [r]G + [T]Q, of which T is computed here."""
    from hwtpm.crypto import ecsign
    from hwtpm.crypto.ecc import EccPrivate, combine

    key, once = EccPrivate(ids.BN_P256, 2), EccPrivate(ids.BN_P256, 3)
    k, s = ecsign.ecdaa_sign(key, ids.SHA256, b"abc", 3, _fixed(4))
    t = int.from_bytes(hashes.digest(ids.SHA256, k, b"abc"), "big")
    return EccPrivate(ids.BN_P256, s).public == combine(key.curve, (1, once.public), (t, key.public))


_TESTS: Final[dict[int, Callable[[], bool]]] = {
    TPM_ALG_RSA: partial(_rsa, TPM_ALG_RSA),
    ids.TDES: partial(_ecb, ids.TDES, _TDES_KEY, b"The qufck brown fox jump", _TDES),
    TPM_ALG_HMAC: _hmac,
    TPM_ALG_AES: _aes_modes,
    TPM_ALG_ECDAA: _ecdaa,
    TPM_ALG_SM2: _sm2,
    TPM_ALG_ECSCHNORR: _schnorr,
    ids.CAMELLIA: partial(_ecb, ids.CAMELLIA, _CAMELLIA_KEY, _CAMELLIA_KEY, _CAMELLIA),
    ids.CMAC: _cmac,
    **{alg: partial(_hash, alg) for alg in hashes.ALGORITHMS},
    **{scheme: partial(_rsa, scheme) for scheme in (TPM_ALG_RSASSA, TPM_ALG_RSAES, TPM_ALG_RSAPSS,
                                                    TPM_ALG_OAEP)},
    **{scheme: partial(_ecc, scheme) for scheme in (TPM_ALG_ECDSA, TPM_ALG_ECDH, TPM_ALG_ECC)},
    **{mode: partial(_aes, mode) for mode in _AES_MODES},
}
TESTS: Final = dict(sorted(_TESTS.items()))
"""The test of each algorithm that has one, in the order of the identifiers; False means a wrong answer."""

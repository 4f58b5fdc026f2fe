"""Known answers of the algorithms (Part 1, 9.3).

The vectors that are not in `hwtpm/crypto/selftest.py` are those of RFC 3713 (Camellia), SP 800-67 (B.1) and
GB/T 32918.5 (annex A).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from hwtpm.crypto import hashes, ids, selftest, symmetric
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

_CAMELLIA_KEY: Final = bytes.fromhex("0123456789abcdeffedcba9876543210")
_CAMELLIA: Final = "67673138549669730857065648eabe43"
_TDES_KEY: Final = bytes.fromhex("0123456789abcdef23456789abcdef01456789abcdef0123")
_TDES: Final = "a826fd8ce53b855fcce21c8112256fe668d5c05dd9b6b900"
_SM2_KEY: Final = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
_SM2_NONCE: Final = 0x59276E27D506861A16680F3AD9C02DCCEF3CC1FA3CDBE4CE6D54B80DEAC1BC21
_SM2_DIGEST: Final = bytes.fromhex("f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640")
_SM2: Final = ("f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3",
               "b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa")


def _aes_modes() -> bool:
    return all(map(selftest.aes_is_right, selftest.AES_MODES))


def _ecb(alg: int, key: bytes, text: bytes, cipher: str) -> bool:
    return symmetric.encrypt(alg, ids.ECB, key, b"", text)[0].hex() == cipher


def _rsa(scheme: int) -> bool:
    if scheme == TPM_ALG_RSASSA:
        return selftest.rsassa_is_right(ids.SHA256)
    if scheme == TPM_ALG_OAEP:
        return selftest.oaep_is_right(ids.SHA256, b"")
    key, digest = selftest.rsa_key(), hashes.digest(ids.SHA256, b"abc")
    if scheme == TPM_ALG_RSAPSS:
        key.verify_pss(ids.SHA256, digest, key.sign_pss(ids.SHA256, digest))
        return True
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
    TPM_ALG_HMAC: partial(selftest.hmac_is_right, ids.SHA256),
    TPM_ALG_AES: _aes_modes,
    TPM_ALG_ECDAA: _ecdaa,
    TPM_ALG_SM2: _sm2,
    TPM_ALG_ECSCHNORR: _schnorr,
    ids.CAMELLIA: partial(_ecb, ids.CAMELLIA, _CAMELLIA_KEY, _CAMELLIA_KEY, _CAMELLIA),
    ids.CMAC: selftest.cmac_is_right,
    **{alg: partial(selftest.hash_is_right, alg) for alg in hashes.ALGORITHMS},
    **{scheme: partial(_rsa, scheme) for scheme in (TPM_ALG_RSASSA, TPM_ALG_RSAES, TPM_ALG_RSAPSS,
                                                    TPM_ALG_OAEP)},
    **{scheme: partial(_ecc, scheme) for scheme in (TPM_ALG_ECDSA, TPM_ALG_ECDH, TPM_ALG_ECC)},
    **{mode: partial(selftest.aes_is_right, mode) for mode in selftest.AES_MODES},
}
TESTS: Final = dict(sorted(_TESTS.items()))
"""The test of each algorithm that has one, in the order of the identifiers; False means a wrong answer."""

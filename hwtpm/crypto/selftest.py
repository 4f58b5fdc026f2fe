"""Known answers of the primitives that TPMs of both families test themselves with.

The vectors are those of FIPS 180-4, FIPS 202 and GB/T 32905 ("abc"), RFC 2202 and RFC 4231 (case 2),
SP 800-38A (F.1.1 to F.5.1), RFC 4493 (example 2), the first of NIST's CAVS file for CTR_DRBG with AES-256 and
derivation function; and, for RSA, of keys made for this purpose with independent programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hwtpm.crypto import hashes, ids, symmetric

if TYPE_CHECKING:
    from hwtpm.crypto.rsa import RsaPrivate

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
_JEFE: Final = {
    ids.SHA1: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
    ids.SHA256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
}
_AES_KEY: Final = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
_AES_BLOCK: Final = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
_IV: Final = bytes(range(16))
_AES: Final = {
    ids.CTR: (bytes(range(0xF0, 0x100)), "874d6191b620e3261bef6864990db6ce"),
    ids.OFB: (_IV, "3b3fd92eb72dad20333449f8e83cfb4a"),
    ids.CBC: (_IV, "7649abac8119b246cee98e9b12e9197d"),
    ids.CFB: (_IV, "3b3fd92eb72dad20333449f8e83cfb4a"),
    ids.ECB: (b"", "3ad77bb40d7a3660a89ecaf32466ef97"),
}
AES_MODES: Final = tuple(_AES)
_CMAC: Final = "070a16b46b4d4144f79bdd9dd04a287c"
_DRBG_SEED: Final = bytes.fromhex("36401940fa8b1fba91a1661f211d78a0b9389a74e5bccfece8d766af1a6d3b14"
                                  "496f25b0f1301b4f501be30380a137eb")
_DRBG: Final = ("5862eb38bd558dd978a696e6df164782ddd887e7e9a6c9f3f1fbafb78941b535"
                "a64912dfd224c6dc7454e5250b3d97165e16260c2faf1cc7735cb75fb4f07e1d")
_RSA: Final = {  # bits: modulus and one prime
    512: ("c457beb91899a1d0d400969f0bb133aa51826932a34ebab12b941b8a43aa7c05"
          "91db2a2197c08fcddc92745bbd77dfd769096ca716b17e0c5cc47976f38c5797",
          "d0f082b846e52174fd81fd5099d7ba41e77912d17468bbfafb9f6346dabba913"),
    1024: ("bc47ed247d46b7cf3d00a5a3dcdf14af5b22c67bf322a919b084e5369bc7248edb093c7706cfb1f94318729307a4abf7"
           "fabb68963d3983957e5a23ec81bf82842212736f605015f57ca56fb96f350dc754d2516ebad016f5842ce5c17bff068c"
           "a4feafe5efb745a5f7022b75c4016bef2a88a7a4d9b4c5a6bc2e0144143539f1",
           "e2d15972ea69fcc2162e2e8cac2e5f3218c0cb8bb43f773e5512ff67fedda42b39b5e2a8d1fc777b89109dc3ffdfba80"
           "e69cdaa8656ac3e9ebb9c8084f9898cf"),
}
_RSASSA: Final = {  # bits and hash: the signature of "abc"
    (512, ids.SHA1):
        "ac606b4a7d5df46e37020b82a505d5f49795999a65dcc63e0f50b614e5ad932b"
        "a5c2f54a30224b947f5150bc82c2d850068297b0f4edd31037b34e754ea78ebb",
    (1024, ids.SHA1):
        "59886264216615d1e9282b2aef4c9a09bd48b54f4966bd426da3856038408abfa307515d40825e0f8e71dbe899932306"
        "3871a1cb8281621ccd36b0fe17b547df000a42d58fef1cb47c8af00caa8dd01e0543eebf3ea834dfe47e671bb49fd659"
        "4f7dfd7df8fc4664301de91bf43f7612b4179bc79a34685eb7a96db37e9a8a50",
    (1024, ids.SHA256):
        "6a0274c63ad145f5f4ec20ab78fa377456f8e9c3b0b56cdc50d749e1ab7829ba3083d45b12d76bdf59473f45e63baf01"
        "10ec2ea9b859c332f6047cc977e73b02ade96c9a1b2bd55f9ced343d1823d1d98e20ea8a9dd8d6154fc9aeeb33d02d7c"
        "b2be7b9cf9018f9bdc739161522b34ab7a7d205a618dada4c728f83a153e8e0e",
}


def hash_is_right(alg: int) -> bool:
    """Tell whether the hash *alg* gives the digest of "abc" that its standard gives."""
    return hashes.digest(alg, b"abc").hex() == _ABC[alg]


def hmac_is_right(alg: int) -> bool:
    """Tell whether HMAC with SHA-1 or SHA-256 gives the answer of its RFC."""
    return hashes.hmac(alg, b"Jefe", b"what do ya want for nothing?").hex() == _JEFE[alg]


def aes_is_right(mode: int) -> bool:
    """Tell whether AES-128 in *mode*, one of AES_MODES, encrypts and decrypts."""
    iv, cipher = _AES[mode]
    return (symmetric.encrypt(ids.AES, mode, _AES_KEY, iv, _AES_BLOCK)[0].hex() == cipher
            and symmetric.decrypt(ids.AES, mode, _AES_KEY, iv, bytes.fromhex(cipher))[0] == _AES_BLOCK)


def cmac_is_right() -> bool:
    """Tell whether CMAC with AES-128 gives the answer of its RFC."""
    return symmetric.cmac(ids.AES, _AES_KEY, _AES_BLOCK).hex() == _CMAC


def drbg_is_right() -> bool:
    """Tell whether the generator gives the octets that NIST's does: those of its second request."""
    from hwtpm.crypto.drbg import CtrDrbg

    drbg = CtrDrbg(_DRBG_SEED)
    drbg.generate(64)
    return drbg.generate(64).hex() == _DRBG


def rsa_key(bits: int = 1024) -> RsaPrivate:
    """Return the key of 512 or 1024 bits that tests are made with."""
    from hwtpm.crypto.rsa import RsaPrivate

    modulus, prime = _RSA[bits]
    return RsaPrivate(int(modulus, 16), int(prime, 16))


def rsassa_is_right(alg: int, bits: int = 1024) -> bool:
    """Tell whether RSASSA-PKCS1-v1_5 with the hash *alg* makes and accepts the right signature."""
    key, digest = rsa_key(bits), hashes.digest(alg, b"abc")
    signature = key.sign_pkcs1(alg, digest)
    key.verify_pkcs1(alg, digest, signature)
    return signature.hex() == _RSASSA[bits, alg]


def oaep_is_right(alg: int, label: bytes, bits: int = 1024) -> bool:
    """Tell whether RSAES-OAEP with the hash *alg* gives back what it took."""
    key, message = rsa_key(bits), b"message"
    return key.decrypt_oaep(alg, label, key.encrypt_oaep(alg, label, message)) == message

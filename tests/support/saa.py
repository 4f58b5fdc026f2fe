"""A System Approval Agent and a privacy CA, written from the specifications and not from the manager."""

from __future__ import annotations

import os
import struct
from hashlib import sha1, sha256
from hmac import digest as hmac
from typing import Final

from hwtpm.crypto import ids, symmetric
from hwtpm.crypto.kdf import kdfa
from hwtpm.crypto.rsa import RsaPrivate, RsaPublic
from hwtpm.tpm2.types.objects import TPMT_PUBLIC
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.wire import decode, encode
from tests.support.tpm12 import primes

MODP_2048: Final = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F"
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF6955817183995497CEA956AE515D2261898FA0510"
    "15728E5A8AACAA68FFFFFFFFFFFFFFFF", 16)
"""Group 14 of RFC 3526, section 3."""


class Saa:
    """An SAA for chips of one family; two of different *number* have different keys."""

    def __init__(self, family: str, number: int = 20) -> None:
        p, q = primes(number)
        self.key = RsaPrivate(p * q, p)
        self.family = family
        self.modulus = self.key.modulus
        self.secret = int.from_bytes(os.urandom(32), "big")

    def hash(self, octets: bytes) -> bytes:
        """Return the digest that this family signs."""
        return (sha1 if self.family == "1.2" else sha256)(octets).digest()

    def sign(self, octets: bytes) -> bytes:
        """Return the PKCS #1 v1.5 signature, 256 octets."""
        return self.key.sign_pkcs1(ids.SHA1 if self.family == "1.2" else ids.SHA256, self.hash(octets))

    def update(self, sequence: int, platforms: list[tuple[bytes, bytes]], kernels: list[bytes]) -> bytes:
        """Return signature, list and selections, as `manage-vtpmmgr.pl group-update` takes them.

        A platform is a selection of PCRs and its hash.
        """
        cfg_list = struct.pack(">QI", sequence, len(platforms)) + b"".join(h for _, h in platforms)
        cfg_list += struct.pack(">I", len(kernels)) + b"".join(kernels)
        selections = b"".join(struct.pack(">H", len(bits)) + bits for bits, _ in platforms)
        return self.sign(cfg_list) + cfg_list + selections

    def dhkx(self) -> bytes:
        """Return this side's half of the Diffie-Hellman exchange."""
        return pow(2, self.secret, MODP_2048).to_bytes(256, "big")

    def shared(self, theirs: bytes) -> bytes:
        """Return SHA-256 of what both sides share then."""
        number = pow(int.from_bytes(theirs, "big"), self.secret, MODP_2048)
        return sha256(number.to_bytes(256, "big")).digest()


def kernel(label: str) -> bytes:
    """Return the hash that stands for the kernel of vTPMs with that label."""
    return sha1(label.encode()).digest()


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def activation12(endorsement: bytes, aik: bytes, session_key: bytes) -> bytes:
    """Return what a privacy CA sends: *session_key* for the AIK (a modulus) of the TPM with that TPM_PUBKEY.

    TPM_ASYM_CA_CONTENTS (Part 2, 12.8), RSAES-OAEP with the label TCPA.
    """
    parms = bytes.fromhex("00000001 0001 0002 0000000c 00000800 00000002 00000000")
    id_digest = sha1(parms + struct.pack(">I", len(aik)) + aik).digest()
    contents = struct.pack(">IHH", 6, 0x00FF, len(session_key)) + session_key + id_digest
    return RsaPublic(decode(TPM_PUBKEY, endorsement).pub_key).encrypt_oaep(ids.SHA1, b"TCPA", contents)


def name20(public: TPMT_PUBLIC) -> bytes:
    """Return the Name of an object with SHA-256 (TPM 2.0 Part 1, 14)."""
    return b"\0\x0b" + sha256(encode(public)).digest()


def activation20(endorsement: bytes, aik: TPMT_PUBLIC, credential: bytes) -> bytes:
    """Return what a privacy CA sends: *credential* for that AIK of the TPM with that TPMT_PUBLIC.

    A TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET (Part 1, 24; annex B.10.4).
    """
    seed, name = os.urandom(32), name20(aik)
    unique = decode(TPMT_PUBLIC, endorsement).unique
    assert isinstance(unique, bytes)
    secret = RsaPublic(unique).encrypt_oaep(ids.SHA256, b"IDENTITY\0", seed)
    key = kdfa(ids.SHA256, seed, b"STORAGE", name, b"", 128)
    inside = symmetric.cfb_encrypt(ids.AES, key, bytes(16), struct.pack(">H", len(credential)) + credential)
    outer = hmac(kdfa(ids.SHA256, seed, b"INTEGRITY", b"", b"", 256), inside + name, "sha256")
    blob = struct.pack(">H", len(outer)) + outer + inside
    return struct.pack(">H", len(blob)) + blob + struct.pack(">H", len(secret)) + secret

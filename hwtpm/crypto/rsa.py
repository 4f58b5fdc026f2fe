"""RSA keys and schemes (Part 1, 43; RFC 8017).

Messages, ciphertexts and signatures are big-endian octet strings as long as the modulus.  The
library signs, verifies and does OAEP.  The raw private operation and PKCS #1 v1.5 decryption are
done here on gmpy2: the library has no call for the first, and answers a wrong padding in the
second with a random message, where a TPM answers an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes as library_hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

from hwtpm.crypto import hashes, ids, oaep
from hwtpm.crypto.errors import BadKey, BadPadding, BadSignature, OutOfRange, UnsupportedAlgorithm

Entropy = Callable[[int], bytes]
"""Gives as many octets as it is asked for."""
KEY_BITS: Final = (512, 1024, 2048, 3072, 4096)
"""What any family of TPMs has; 512 bits are of TPM 1.2 only (its Part 2, 10.1.1)."""
DEFAULT_EXPONENT: Final = 65537
"""The public exponent that a zero in TPMS_RSA_PARMS stands for (Part 2, 12.2.3.5)."""

_HASHES: Final[dict[int, library_hashes.HashAlgorithm]] = {
    ids.SHA1: library_hashes.SHA1(),  # noqa: S303 - a TPM algorithm; who uses it chose it
    ids.SHA256: library_hashes.SHA256(),
    ids.SHA384: library_hashes.SHA384(),
    ids.SHA512: library_hashes.SHA512(),
    ids.SHA3_256: library_hashes.SHA3_256(),
    ids.SHA3_384: library_hashes.SHA3_384(),
    ids.SHA3_512: library_hashes.SHA3_512(),
    ids.SM3_256: library_hashes.SM3(),
}
_LIBRARY_OAEP: Final = (ids.SHA1, ids.SHA256, ids.SHA384, ids.SHA512)
_V15: Final = padding.PKCS1v15()


def _hash(alg: int) -> library_hashes.HashAlgorithm:
    try:
        return _HASHES[alg]
    except KeyError:
        raise UnsupportedAlgorithm(f"no hash algorithm 0x{alg:04x}") from None


def _prehashed(alg: int, digest: bytes) -> Prehashed:
    method = _hash(alg)
    if len(digest) != method.digest_size:
        raise OutOfRange(f"a digest of {len(digest)} octets for {method.name}")
    return Prehashed(method)


def _oaep(alg: int, label: bytes) -> padding.OAEP:
    method = _hash(alg)
    return padding.OAEP(padding.MGF1(method), method, label or None)


def max_oaep_message(size: int, alg: int) -> int:
    """Return how many octets OAEP can carry under a modulus of *size* octets; may be negative."""
    return size - 2 * hashes.size(alg) - 2


def salt_size(size: int, alg: int) -> int:
    """Return the length of the salt of an RSASSA-PSS signature in octets (Part 1, 43.7).

    The largest that FIPS 186-5, 5.4 allows, which is the size of the digest, unless the modulus of
    *size* octets is too small for it.  OutOfRange when not even an empty salt fits.
    """
    digest = hashes.size(alg)
    room = size - digest - 2
    if room < 0:
        raise OutOfRange("the modulus is too small for this digest")
    return min(digest, room)


class RsaPublic:
    """A public key.  The library's object is made when it is first needed."""

    __slots__ = ("_key", "e", "n", "size")

    def __init__(self, n: int | bytes, e: int = DEFAULT_EXPONENT) -> None:
        """Make the key; BadKey for an even modulus or exponent, or one of a size not in KEY_BITS."""
        self.n = n if isinstance(n, int) else int.from_bytes(n, "big")
        self.e = e
        if self.n.bit_length() not in KEY_BITS or not self.n & 1:
            raise BadKey(f"an RSA modulus of {self.n.bit_length()} bits")
        if e < 3 or not e & 1:
            raise BadKey("an RSA public exponent that is even or less than three")
        self.size = self.n.bit_length() // 8
        self._key: rsa.RSAPublicKey | None = None

    @property
    def modulus(self) -> bytes:
        """The modulus, `size` octets."""
        return self.n.to_bytes(self.size, "big")

    def _library(self) -> rsa.RSAPublicKey:
        if self._key is None:
            try:
                self._key = rsa.RSAPublicNumbers(self.e, self.n).public_key()
            except ValueError as error:
                raise BadKey(f"an RSA key that the library refuses: {error}") from None
        return self._key

    def _below_modulus(self, data: bytes) -> int:
        """Return *data* as a number; OutOfRange unless it is less than the modulus (RFC 8017, 5.1)."""
        value = int.from_bytes(data, "big")
        if value >= self.n:
            raise OutOfRange("not less than the modulus")
        return value

    def _whole(self, data: bytes) -> bytes:
        if len(data) != self.size:
            raise OutOfRange(f"{len(data)} octets under a modulus of {self.size}")
        return data

    def raw(self, message: bytes) -> bytes:
        """Return message**e mod n (Part 1, 43.2: RSAEP); OutOfRange unless the message is less than n."""
        import gmpy2

        value = self._below_modulus(message)
        return int(gmpy2.powmod(value, self.e, self.n)).to_bytes(self.size, "big")

    def verify_pkcs1(self, alg: int, digest: bytes, signature: bytes) -> None:
        """Return if *signature* is RSASSA-PKCS1-v1.5 over *digest*, else raise BadSignature (43.6).

        OutOfRange when *digest* is not as long as *alg* makes it.
        """
        self._verify(signature, digest, _V15, _prehashed(alg, digest))

    def verify_pss(self, alg: int, digest: bytes, signature: bytes) -> None:
        """Return if *signature* is RSASSA-PSS over *digest*, else raise BadSignature (43.7).

        Any length of salt is accepted: implementations from before FIPS 186-4 chose the largest
        that fits.  OutOfRange when *digest* is not as long as *alg* makes it.
        """
        scheme = padding.PSS(padding.MGF1(_hash(alg)), padding.PSS.AUTO)
        self._verify(signature, digest, scheme, _prehashed(alg, digest))

    def _verify(
        self, signature: bytes, digest: bytes, scheme: padding.PKCS1v15 | padding.PSS, method: Prehashed
    ) -> None:
        key = self._library()
        try:
            key.verify(signature, digest, scheme, method)
        except InvalidSignature:
            raise BadSignature("RSA") from None

    def encrypt_oaep(self, alg: int, label: bytes, message: bytes, random: Entropy | None = None) -> bytes:
        """Return *message* under RSAES-OAEP (43.4), the hash also that of the mask.

        *label* is used as it comes: where the TPM fixes it, its terminating zero octet belongs to
        it.  *random* makes the seed for a hash that the library does not know OAEP with, and is needed
        for it.  OutOfRange when the message is longer than `max_oaep_message` of the key.
        """
        if len(message) > max_oaep_message(self.size, alg):
            raise OutOfRange(f"a message of {len(message)} octets is too long for OAEP")
        if alg in _LIBRARY_OAEP:
            return self._library().encrypt(message, _oaep(alg, label))
        if random is None:
            raise UnsupportedAlgorithm(f"no OAEP with {_hash(alg).name} without a source of randomness")
        return self.raw(oaep.encode(alg, label, message, self.size, random(hashes.size(alg))))

    def encrypt_pkcs1(self, message: bytes) -> bytes:
        """Return *message* under RSAES-PKCS1-v1.5 (43.5); OutOfRange when longer than the modulus - 11."""
        if len(message) > self.size - 11:
            raise OutOfRange(f"a message of {len(message)} octets is too long for PKCS #1")
        return self._library().encrypt(message, _V15)


class RsaPrivate(RsaPublic):
    """A private key of two primes, with the library's object made when it is first needed."""

    __slots__ = ("_parts", "_private", "p", "q")

    def __init__(self, n: int | bytes, p: int | bytes, e: int = DEFAULT_EXPONENT) -> None:
        """Make the key of modulus *n* and one of its primes.

        Checks what Part 1, 43.1 asks at load: the remainder of n / p is zero, and the squares of
        both primes have as many bits as n; and that e can be inverted.  Whether the factors are
        prime is not looked at.  BadKey when a check fails.
        """
        super().__init__(n, e)
        self.p = p if isinstance(p, int) else int.from_bytes(p, "big")
        if self.p < 3:
            raise BadKey("not a prime of the modulus")
        self.q, remainder = divmod(self.n, self.p)
        bits = self.n.bit_length()
        if (
            remainder
            or self.p == self.q
            or (self.p * self.p).bit_length() != bits
            or (self.q * self.q).bit_length() != bits
        ):
            raise BadKey("not a prime of the modulus")
        self._parts: tuple[int, int, int] | None = None
        self._private: rsa.RSAPrivateKey | None = None
        if math.gcd(e, (self.p - 1) * (self.q - 1)) != 1:
            raise BadKey("the public exponent has no inverse")

    def __repr__(self) -> str:
        return f"<RSA private key of {self.size * 8} bits>"

    def _crt(self) -> tuple[int, int, int]:
        """Return d mod (p-1), d mod (q-1) and the inverse of q modulo p."""
        if self._parts is None:
            # Python's own inverse takes 70 us more than gmpy2's, and importing that 60 ms.
            try:
                self._parts = (
                    pow(self.e, -1, self.p - 1), pow(self.e, -1, self.q - 1), pow(self.q, -1, self.p))
            except ValueError:
                # Only factors that are not prime have a divisor in common.
                raise BadKey("the factors of the modulus are not prime") from None
        return self._parts

    def _library_private(self) -> rsa.RSAPrivateKey:
        if self._private is None:
            dp, dq, qinv = self._crt()
            d = pow(self.e, -1, (self.p - 1) * (self.q - 1))
            numbers = rsa.RSAPrivateNumbers(
                self.p, self.q, d, dp, dq, qinv, rsa.RSAPublicNumbers(self.e, self.n)
            )
            # The library's own check proves both primes, which takes 37 ms; ours above is enough,
            # since the TPM does not validate primality either (Part 1, 43.1).
            try:
                self._private = numbers.private_key(unsafe_skip_rsa_key_validation=True)
            except ValueError as error:
                raise BadKey(f"an RSA key that the library refuses: {error}") from None
        return self._private

    def raw_private(self, cipher: bytes) -> bytes:
        """Return cipher**d mod n (Part 1, 43.3: RSADP); OutOfRange unless the cipher is less than n."""
        import gmpy2

        value = self._below_modulus(cipher)
        dp, dq, qinv = self._crt()
        gmpy2.get_context().allow_release_gil = True
        # powmod_sec takes the same time for every exponent of one size.
        at_p = int(gmpy2.powmod_sec(value % self.p, dp, self.p))
        at_q = int(gmpy2.powmod_sec(value % self.q, dq, self.q))
        result = at_q + (at_p - at_q) * qinv % self.p * self.q
        # A computation gone wrong in one half would reveal the other prime.
        if int(gmpy2.powmod(result, self.e, self.n)) != value:
            raise BadKey("the private operation does not match the public one")
        return result.to_bytes(self.size, "big")

    def sign_pkcs1(self, alg: int, digest: bytes) -> bytes:
        """Return the RSASSA-PKCS1-v1.5 signature over *digest* (43.6).

        OutOfRange when *digest* is not as long as *alg* makes it, or the modulus too small.
        """
        return self._sign_v15(digest, _prehashed(alg, digest))

    def sign_block(self, data: bytes) -> bytes:
        """Return the RSASSA-PKCS1-v1.5 signature over *data* itself, which is there in place of a DigestInfo.

        OutOfRange when *data* is longer than the modulus less 11 octets.
        """
        return self._sign_v15(data, NoDigestInfo())

    def _sign_v15(self, data: bytes, method: Prehashed | NoDigestInfo) -> bytes:
        key = self._library_private()
        try:
            return key.sign(data, _V15, method)
        except ValueError as error:
            raise OutOfRange(f"RSASSA: {error}") from None

    def sign_pss(self, alg: int, digest: bytes) -> bytes:
        """Return the RSASSA-PSS signature over *digest*, with the salt of `salt_size` (43.7).

        OutOfRange when *digest* is not as long as *alg* makes it, or the modulus too small.
        """
        method = _prehashed(alg, digest)
        scheme = padding.PSS(padding.MGF1(_hash(alg)), salt_size(self.size, alg))
        return self._library_private().sign(digest, scheme, method)

    def decrypt_oaep(self, alg: int, label: bytes, cipher: bytes) -> bytes:
        """Return the message in *cipher* (43.4); BadPadding when there is none under this key and label.

        OutOfRange when *cipher* is not as long as the modulus, or not less than it.
        """
        self._below_modulus(self._whole(cipher))
        if max_oaep_message(self.size, alg) < 0:
            raise OutOfRange("the modulus is too small for this hash")
        if alg not in _LIBRARY_OAEP:
            return oaep.decode(alg, label, self.raw_private(cipher))
        key = self._library_private()
        try:
            return key.decrypt(cipher, _oaep(alg, label))
        except ValueError:
            raise BadPadding("OAEP") from None

    def decrypt_pkcs1(self, cipher: bytes) -> bytes:
        """Return the message in *cipher* (43.5; RFC 8017, 7.2.2); BadPadding when there is none.

        OutOfRange when *cipher* is not as long as the modulus, or not less than it.
        """
        block = self.raw_private(self._whole(cipher))
        end = block.find(b"\0", 2)
        if block[:2] != b"\0\x02" or end < 10:
            raise BadPadding("PKCS #1")
        return block[end + 1 :]

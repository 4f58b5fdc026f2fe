"""What can go wrong in this package; the engines map each class to a response code."""

from __future__ import annotations


class CryptoError(Exception):
    """The root of every failure that this package reports."""


class UnsupportedAlgorithm(CryptoError):
    """No implementation exists for this algorithm, mode, curve or key size."""


class OutOfRange(CryptoError):
    """A number or an octet string lies outside what the key, curve or mode can work on."""


class BadKey(CryptoError):
    """The parts of a key do not belong together, or the key breaks a rule of its algorithm."""


class BadPoint(CryptoError):
    """The coordinates are not a point of the curve, or a result is the point at infinity."""


class BadSignature(CryptoError):
    """The signature does not verify."""


class BadPadding(CryptoError):
    """A decrypted RSA block is not what the encryption scheme puts there."""


class AuthenticationFailed(CryptoError):
    """An authenticated ciphertext was not made with this key, nonce and additional data."""


class Cancelled(CryptoError):
    """The caller asked for the end of a long computation."""

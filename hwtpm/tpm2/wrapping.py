"""Protection of sensitive areas outside the TPM (Part 1, 19).

A private area is: TPM2B_DIGEST outer HMAC, TPM2B_IV, and the TPM2B_SENSITIVE encrypted in CFB mode.  Both
keys come from the parent's seedValue by KDFa.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from hwtpm.crypto import hashes, symmetric
from hwtpm.crypto.kdf import kdfa
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import MAX_DIGEST_SIZE
from hwtpm.tpm2.state.objects import Object
from hwtpm.tpm2.templates import protection
from hwtpm.tpm2.types.algorithms import TPMT_SYM_DEF_OBJECT
from hwtpm.tpm2.types.constants import (
    TPM_RC_INSUFFICIENT,
    TPM_RC_INTEGRITY,
    TPM_RC_SENSITIVE,
    TPM_RC_SIZE,
    TPM_RC_VALUE,
)
from hwtpm.tpm2.types.objects import TPMT_SENSITIVE
from hwtpm.wire import decode, encode

_STORAGE: Final = b"STORAGE\0"
_INTEGRITY: Final = b"INTEGRITY\0"


def outer_wrap(alg: int, seed: bytes, cipher: TPMT_SYM_DEF_OBJECT, name: bytes, data: bytes,
               iv: bytes | None = None) -> bytes:
    """Return *data* encrypted and then authenticated together with *name* (Part 1, 19.4 and 19.5).

    *alg* and *cipher* are the protector's nameAlg and symmetric algorithm.  The *iv* is put in front of the
    encrypted data; without one it is zero and not sent, as duplication and credentials have it.
    """
    key = _symmetric_key(alg, seed, cipher, name)
    body = symmetric.cfb_encrypt(cipher.algorithm, key, iv or _zero_iv(cipher), data)
    if iv is not None:
        body = len(iv).to_bytes(2, "big") + iv + body
    integrity = hashes.hmac(alg, _integrity_key(alg, seed), body, name)
    return len(integrity).to_bytes(2, "big") + integrity + body


def outer_unwrap(alg: int, seed: bytes, cipher: TPMT_SYM_DEF_OBJECT, name: bytes, blob: bytes, *,
                 with_iv: bool) -> bytes:
    """Return what `outer_wrap` protected.

    Raises TPM_RC_INTEGRITY before anything is decrypted; TPM_RC_INSUFFICIENT, TPM_RC_SIZE or TPM_RC_VALUE
    when the sizes inside do not fit.
    """
    integrity, body = take_sized(blob, MAX_DIGEST_SIZE)
    if not hmac.compare_digest(integrity, hashes.hmac(alg, _integrity_key(alg, seed), body, name)):
        raise TpmError(TPM_RC_INTEGRITY)
    iv = _zero_iv(cipher)
    if with_iv:
        iv, body = take_sized(body, symmetric.BLOCK)
        if len(iv) != symmetric.block_size(cipher.algorithm):
            raise TpmError(TPM_RC_VALUE)
    key = _symmetric_key(alg, seed, cipher, name)
    return symmetric.cfb_decrypt(cipher.algorithm, key, iv, body)


def protect(parent: Object, name: bytes, name_alg: int, sensitive: TPMT_SENSITIVE,
            random: Callable[[int], bytes]) -> bytes:
    """Return the private area of a child of *parent*: the buffer of a TPM2B_PRIVATE (Part 1, 19.5).

    The authValue is padded to the size of a digest of *name_alg*, so that its length does not show
    (Part 1, 24.7.3).
    """
    cipher = protection(parent.public)
    return outer_wrap(parent.public.name_alg, _seed(parent), cipher, name,
                      sensitive_area(name_alg, sensitive), random(symmetric.block_size(cipher.algorithm)))


def sensitive_area(name_alg: int, sensitive: TPMT_SENSITIVE) -> bytes:
    """Return the TPM2B_SENSITIVE that a private area or a duplicate holds, its authValue padded."""
    area = encode(TPMT_SENSITIVE(
        sensitive.sensitive_type, sensitive.auth_value.ljust(hashes.size(name_alg), b"\0"),
        sensitive.seed_value, sensitive.sensitive,
    ))
    return len(area).to_bytes(2, "big") + area


def unprotect(parent: Object, name: bytes, private: bytes) -> TPMT_SENSITIVE:
    """Return the sensitive area of a private area.

    Raises what `outer_unwrap` does, and TPM_RC_SENSITIVE when what is inside is not a sensitive area.
    """
    area = outer_unwrap(parent.public.name_alg, _seed(parent), protection(parent.public), name, private,
                        with_iv=True)
    if int.from_bytes(area[:2], "big") != len(area) - 2:
        raise TpmError(TPM_RC_SENSITIVE)
    try:
        return decode(TPMT_SENSITIVE, area[2:])
    except TpmError:
        raise TpmError(TPM_RC_SENSITIVE) from None


def _seed(parent: Object) -> bytes:
    assert parent.sensitive is not None
    return parent.sensitive.seed_value


def _zero_iv(cipher: TPMT_SYM_DEF_OBJECT) -> bytes:
    return bytes(symmetric.block_size(cipher.algorithm))


def _symmetric_key(alg: int, seed: bytes, cipher: TPMT_SYM_DEF_OBJECT, name: bytes) -> bytes:
    assert cipher.key_bits is not None, "a parent has a symmetric algorithm"
    return kdfa(alg, seed, _STORAGE, name, b"", cipher.key_bits)


def _integrity_key(alg: int, seed: bytes) -> bytes:
    return kdfa(alg, seed, _INTEGRITY, b"", b"", hashes.size(alg) * 8)


def inner_wrap(alg: int, cipher: TPMT_SYM_DEF_OBJECT, key: bytes, name: bytes, area: bytes) -> bytes:
    """Return *area* with its digest in front, both encrypted (Part 1, 20.3.2.2).

    *alg* is the nameAlg of the object, *name* its Name.
    """
    integrity = hashes.digest(alg, area, name)
    plain = len(integrity).to_bytes(2, "big") + integrity + area
    return symmetric.cfb_encrypt(cipher.algorithm, key, _zero_iv(cipher), plain)


def inner_unwrap(alg: int, cipher: TPMT_SYM_DEF_OBJECT, key: bytes, name: bytes, blob: bytes) -> bytes:
    """Return the area that `inner_wrap` protected.

    Raises TPM_RC_INTEGRITY when it is not of that *key* and *name*, and what `take_sized` does.
    """
    plain = symmetric.cfb_decrypt(cipher.algorithm, key, _zero_iv(cipher), blob)
    integrity, area = take_sized(plain, MAX_DIGEST_SIZE)
    if not hmac.compare_digest(integrity, hashes.digest(alg, area, name)):
        raise TpmError(TPM_RC_INTEGRITY)
    return area


def take_sized(blob: bytes, limit: int) -> tuple[bytes, bytes]:
    """Split a TPM2B of at most *limit* octets from the front of *blob*.

    Raises TPM_RC_SIZE when it is longer, TPM_RC_INSUFFICIENT when *blob* is shorter than it says.
    """
    size = int.from_bytes(blob[:2], "big")
    if len(blob) < 2:
        raise TpmError(TPM_RC_INSUFFICIENT)
    if size > limit:
        raise TpmError(TPM_RC_SIZE)
    if len(blob) < 2 + size:
        raise TpmError(TPM_RC_INSUFFICIENT)
    return blob[2 : 2 + size], blob[2 + size :]

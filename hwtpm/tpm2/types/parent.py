"""What a virtual TPM has the chip below it sign: as for TPM 1.2, where Xen has it, with SHA-256."""

from __future__ import annotations

from hashlib import sha256

from hwtpm.tpm2.types.structures import TPMS_QUOTE_INFO
from hwtpm.wire import encode

DIGEST_SIZE = 20  # octets that the manager takes: of a TPM 1.2's nonce
_DEEP_QUOTE = b"\0\0\0\0DQUT"
_ENDORSEMENT = b"\0\0\0\0EKEY"


def deep_quote_digest(extern_data: bytes, quoted: TPMS_QUOTE_INFO) -> bytes:
    """Return the 20 octets that stand for the virtual TPM's PCRs in the quote of the chip.

    They are the first of SHA-256 over 0.0.0.0, "DQUT", *extern_data* (20 octets) and the TPMS_QUOTE_INFO,
    whose digest is SHA-256 as well.
    """
    return sha256(_DEEP_QUOTE + extern_data + encode(quoted)).digest()[:DIGEST_SIZE]


def endorsement_digest(name: bytes, extern_data: bytes) -> bytes:
    """Return the 20 octets that stand for the key of that Name.

    They are the first of SHA-256 over 0.0.0.0, "EKEY", *extern_data* (20 octets) and the Name.
    """
    return sha256(_ENDORSEMENT + extern_data + name).digest()[:DIGEST_SIZE]

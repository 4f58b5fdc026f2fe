"""What the manager asks of a chip beside sealing: identity keys, quotes, endorsement key and NV areas.

Digests are those of the chip's family: SHA-1 with a TPM 1.2, SHA-256 with a TPM 2.0.  Selections of PCRs are
bit maps of three octets; values of PCRs are concatenated in the order of their numbers.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

from manager.sealing import Conversation, SealingChip

QUOTE_PCRS: Final = (20, 21, 22, 23)
"""The PCRs that hold what a quote is about; the manager's locality resets and extends them."""


class Aik(NamedTuple):
    """An attestation identity key: its modulus, 256 octets, and what the chip loads it from.

    *blob* is a TPM_KEY, or a TPM2B_PRIVATE and a TPM2B_PUBLIC.
    """

    modulus: bytes
    blob: bytes


class NewAik(NamedTuple):
    """A new key, and its own signature, 256 octets, for a privacy CA.

    It signs a TPM_IDENTITY_CONTENTS and then *statement* is empty; or *statement*, the TPMS_ATTEST of
    TPM2_CertifyCreation, whose extraData is the label digest.
    """

    aik: Aik
    binding: bytes
    statement: bytes


class Quote(NamedTuple):
    """A signature, 256 octets, over a TPM_QUOTE_INFO, and *statement* is empty; or over *statement*, a
    TPMS_ATTEST.  *values* are those of the quoted PCRs."""

    signature: bytes
    statement: bytes
    values: bytes


class AttestingConversation(Conversation, Protocol):
    """A conversation with a chip that also identifies itself; methods raise as those of `Conversation` do."""

    def make_aik(self, label_digest: bytes, auth: bytes) -> NewAik:
        """Return a new identity key with the secret *auth*, 20 octets; *label_digest* is for a privacy CA."""

    def activate(self, blob: bytes, auth: bytes, encrypted: bytes) -> bytes:
        """Return what a privacy CA has *encrypted* for the key: a TPM_SYMMETRIC_KEY, or a TPM2B_DIGEST."""

    def quote(self, blob: bytes, auth: bytes, pcrs: bytes, extern: bytes) -> Quote:
        """Return the signature of the key over *pcrs* and *extern*, a digest."""

    def endorsement_key(self) -> bytes:
        """Return the endorsement key's public part: a TPM_PUBKEY, or a TPMT_PUBLIC."""

    def read_pcrs(self, pcrs: bytes) -> bytes:
        """Return the values of the PCRs."""

    def set_quote_pcrs(self, digests: dict[int, list[bytes]]) -> None:
        """QUOTE_PCRS have been reset, and then extended with these, in order."""


class AttestingChip(SealingChip, Protocol):
    """A chip whose conversations do that, too."""

    def conversation(self, parent: bytes | None) -> AbstractContextManager[AttestingConversation]:
        """Return a conversation, as `SealingChip` says."""

    def return_code(self, rc: int) -> int:
        """Return the TPM 1.2 return code for an error *rc* of this chip."""

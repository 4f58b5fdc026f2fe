"""Cryptographic functions: the SHA-1 thread (Part 3, 13.1 to 13.4)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_PCRVALUE, UINT32
from hwtpm.tpm12.types.ordinals import (
    TPM_ORD_SHA1Complete,
    TPM_ORD_SHA1CompleteExtend,
    TPM_ORD_SHA1Start,
    TPM_ORD_SHA1Update,
)
from hwtpm.wire import Wire


class SHA1StartResponse(Wire):
    max_num_bytes: UINT32


class SHA1Start(Command[SHA1StartResponse]):
    """A thread has begun; it takes that many octets at a time.  Part 3, 13.1."""

    ORD: ClassVar[int] = TPM_ORD_SHA1Start
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True


class SHA1Update(Command[Empty]):
    """The thread has taken whole blocks of 64 octets.  Part 3, 13.2."""

    ORD: ClassVar[int] = TPM_ORD_SHA1Update
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
    hash_data: SIZED


class SHA1CompleteResponse(Wire):
    hash_value: TPM_DIGEST


class SHA1Complete(Command[SHA1CompleteResponse]):
    """The thread has taken the last 0 to 64 octets and ended.  Part 3, 13.3."""

    ORD: ClassVar[int] = TPM_ORD_SHA1Complete
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
    hash_data: SIZED


class SHA1CompleteExtendResponse(Wire):
    hash_value: TPM_DIGEST
    out_digest: TPM_PCRVALUE


class SHA1CompleteExtend(Command[SHA1CompleteExtendResponse]):
    """The thread has ended, and a PCR has taken up its digest.  Part 3, 13.4."""

    ORD: ClassVar[int] = TPM_ORD_SHA1CompleteExtend
    NEEDS: ClassVar[Needs] = Needs.WORKING
    BEFORE_TESTS: ClassVar[bool] = True
    pcr_num: UINT32
    hash_data: SIZED

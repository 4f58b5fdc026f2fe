"""Structures that are signed (Part 2, 5.14 and 11)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.types.base import SIZED, TPM_NONCE
from hwtpm.tpm12.types.constants import TPM_TAG_SIGNINFO
from hwtpm.wire import Fixed, Wire

FIXED_TEXT = Annotated[bytes, Fixed(4)]
"""Four letters that tell which function signs."""


class TPM_SIGN_INFO(Wire):
    """What is signed where a function has no structure of its own.  Part 2, 5.14."""

    TAG: ClassVar[int] = TPM_TAG_SIGNINFO
    fixed: FIXED_TEXT
    replay: TPM_NONCE
    data: SIZED

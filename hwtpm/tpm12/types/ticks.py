"""Ticks (Part 2, 15)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import TPM_NONCE, UINT16, UINT64
from hwtpm.tpm12.types.constants import TPM_TAG_CURRENT_TICKS
from hwtpm.wire import Wire


class TPM_CURRENT_TICKS(Wire):
    """*current_ticks* of *tick_rate* microseconds since the session *tick_nonce* began.  Part 2, 15.1."""

    TAG: ClassVar[int] = TPM_TAG_CURRENT_TICKS
    current_ticks: UINT64
    tick_rate: UINT16
    tick_nonce: TPM_NONCE

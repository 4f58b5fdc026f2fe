"""Monotonic counters (Part 2, 5.13)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.tpm12.types.base import UINT32
from hwtpm.tpm12.types.constants import TPM_TAG_COUNTER_VALUE
from hwtpm.wire import Fixed, Wire

TPM_COUNT_ID = UINT32
COUNT_ID_NULL: Final = 0xFFFFFFFF  # no counter has been chosen since TPM_Startup(ST_CLEAR)
COUNT_ID_ILLEGAL: Final = 0xFFFFFFFE  # the one that was chosen has been released
TPM_COUNTER_LABEL = Annotated[bytes, Fixed(4)]


class TPM_COUNTER_VALUE(Wire):
    """A counter as everybody may see it."""

    TAG: ClassVar[int] = TPM_TAG_COUNTER_VALUE
    label: TPM_COUNTER_LABEL
    counter: UINT32

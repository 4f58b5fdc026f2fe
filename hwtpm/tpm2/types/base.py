"""The base types (Part 2, 5; v185)."""

from __future__ import annotations

from typing import Annotated, Final

from hwtpm.wire import Int

# 5.1 Primitive types; all integers are big-endian.
UINT8 = Annotated[int, Int("B")]
BYTE = UINT8
INT8 = Annotated[int, Int("b")]
BOOL = UINT8
UINT16 = Annotated[int, Int("H")]
INT16 = Annotated[int, Int("h")]
UINT32 = Annotated[int, Int("I")]
INT32 = Annotated[int, Int("i")]
UINT64 = Annotated[int, Int("Q")]
INT64 = Annotated[int, Int("q")]

# 5.2 Logic values
YES: Final = 1
NO: Final = 0
SET: Final = 1
CLEAR: Final = 0

# 5.3 Miscellaneous types
TPM_KEY_BITS = UINT16

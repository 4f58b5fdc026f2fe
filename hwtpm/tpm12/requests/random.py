"""Random numbers (Part 3, 13.6 and 13.7)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty
from hwtpm.tpm12.types.base import SECRET_SIZED, UINT32
from hwtpm.tpm12.types.ordinals import TPM_ORD_GetRandom, TPM_ORD_StirRandom
from hwtpm.wire import Wire


class GetRandomResponse(Wire):
    random_bytes: SECRET_SIZED


class GetRandom(Command[GetRandomResponse]):
    """At most *bytes_requested* random octets are returned.  Part 3, 13.6."""

    ORD: ClassVar[int] = TPM_ORD_GetRandom
    bytes_requested: UINT32


class StirRandom(Command[Empty]):
    """The data are mixed into the state of the random number generator.  Part 3, 13.7."""

    ORD: ClassVar[int] = TPM_ORD_StirRandom
    in_data: SECRET_SIZED

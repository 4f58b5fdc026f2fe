"""Random number generator (Part 3, 16)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.algorithms import TPM2B_SENSITIVE_DATA
from hwtpm.tpm2.types.base import UINT16
from hwtpm.tpm2.types.constants import TPM_CC_GetRandom, TPM_CC_StirRandom
from hwtpm.tpm2.types.structures import TPM2B_DIGEST
from hwtpm.wire import SECRET, Wire


class GetRandomResponse(Wire):
    random_bytes: Annotated[TPM2B_DIGEST, SECRET]


class GetRandom(Command[GetRandomResponse]):
    """At most *bytes_requested* random octets are returned.  Part 3, 16.1."""

    CC: ClassVar[int] = TPM_CC_GetRandom
    bytes_requested: UINT16


class StirRandom(Command[Empty]):
    """The data are mixed into the state of the random number generator.  Part 3, 16.2."""

    CC: ClassVar[int] = TPM_CC_StirRandom
    NV: ClassVar[bool] = True
    in_data: TPM2B_SENSITIVE_DATA

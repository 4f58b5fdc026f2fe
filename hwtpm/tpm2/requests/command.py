"""What every request class declares besides its members."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from hwtpm.command import response_of
from hwtpm.tpm2.types.attributes import (
    TPMA_CC_CHANDLES_SHIFT,
    TPMA_CC_COMMANDINDEX,
    TPMA_CC_EXTENSIVE,
    TPMA_CC_FLUSHED,
    TPMA_CC_NV,
    TPMA_CC_RHANDLE,
    TPMA_CC_V,
)
from hwtpm.wire import Wire, handle_area

R = TypeVar("R", bound=Wire)


class Command(Wire, Generic[R]):
    """A request; the type argument is its response.

    The class attributes are what the tables of Part 3 decorate the command code with (Part 3, 4.2), and LONG:
    the command may search primes or do comparable work, so it polls for cancellation and runs off an event
    loop.  Handles, authorizations and whether the first parameter can be encrypted follow from the members.
    """

    CC: ClassVar[int]
    NV: ClassVar[bool] = False  # {NV}: may write NV memory
    EXTENSIVE: ClassVar[bool] = False  # {E}: may flush many transient objects or sessions
    FLUSHED: ClassVar[bool] = False  # {F}: flushes the context named by a handle
    NO_SESSIONS: ClassVar[bool] = False  # the tag has to be TPM_ST_NO_SESSIONS
    LONG: ClassVar[bool] = False


def tpma_cc(request: type[Command[Any]]) -> int:
    """Return the command attributes of *request*, a TPMA_CC (Part 2, 8.9)."""
    attributes = request.CC & (TPMA_CC_COMMANDINDEX | TPMA_CC_V)
    attributes |= len(handle_area(request)) << TPMA_CC_CHANDLES_SHIFT
    if request.NV:
        attributes |= TPMA_CC_NV
    if request.EXTENSIVE:
        attributes |= TPMA_CC_EXTENSIVE
    if request.FLUSHED:
        attributes |= TPMA_CC_FLUSHED
    if handle_area(response_of(request)):
        attributes |= TPMA_CC_RHANDLE
    return attributes


class Empty(Wire):
    """A response without handles and parameters."""

"""What every request class declares besides its members."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar, get_args

from hwtpm.wire import Wire

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


def response_of(request: type[Command[Any]]) -> type[Wire]:
    """Return the response class that *request* names."""
    for base in request.__orig_bases__:  # type: ignore[attr-defined]
        for argument in get_args(base):
            if isinstance(argument, type):
                return argument
    raise TypeError(f"{request.__name__} does not name its response")


class Empty(Wire):
    """A response without handles and parameters."""

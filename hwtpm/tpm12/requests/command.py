"""What every request class of TPM 1.2 declares besides its members."""

from __future__ import annotations

from enum import Flag, auto
from typing import ClassVar, Generic, TypeVar

from hwtpm.wire import Wire

R = TypeVar("R", bound=Wire)


class Needs(Flag):
    """The states a command depends on (Part 2, 17: the table of ordinals).

    All but TPM_Startup need a TPM that was started (TPM_INVALID_POSTINIT).
    """

    NOTHING = 0
    NO_LOCKOUT = auto()  # no defence against a dictionary attack is under way: TPM_DEFEND_LOCK_RUNNING
    WORKING = auto()  # no self-test has failed: TPM_FAILEDSELFTEST
    ENABLED = auto()  # TPM_DISABLED
    ACTIVATED = auto()  # TPM_DEACTIVATED
    OWNER = auto()  # an owner is installed: TPM_NOSRK
    UNLESS_NV_UNLOCKED = auto()  # ENABLED and ACTIVATED hold only once nvLocked is TRUE

    USABLE = WORKING | ENABLED | ACTIVATED | NO_LOCKOUT  # what most commands need
    OWNED = USABLE | OWNER


class Command(Wire, Generic[R]):
    """A request; the type argument is its response.

    Members marked as handles come first and are not covered by parameter digests; the authorizations after
    the parameters are no members.  The class attributes are the columns of the table of ordinals.
    """

    ORD: ClassVar[int]
    AUTHS: ClassVar[tuple[int, ...]] = (0,)  # how many authorizations a request can carry
    NEEDS: ClassVar[Needs] = Needs.USABLE
    OWNER_DELEGATION: ClassVar[int | None] = None  # its bit in per1 of an owner delegation
    KEY_DELEGATION: ClassVar[int | None] = None  # its bit in per1 of a key delegation
    AUDITABLE: ClassVar[bool] = True
    AUDIT_DEFAULT: ClassVar[bool] = False
    TRANSPORT: ClassVar[bool] = False  # its last authorization is that of a transport session
    WRAPPABLE: ClassVar[bool] = True  # can run inside a transport session
    KEY_HANDLES: ClassVar[int] = 0  # how many of the handles are key handles
    BEFORE_TESTS: ClassVar[bool] = False  # runs before the self-tests are complete (Part 1, 7.2)
    LONG: ClassVar[bool] = False  # may search primes or do comparable work: polls for cancellation


class Empty(Wire):
    """A response without parameters."""

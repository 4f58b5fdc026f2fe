"""Whether the TPM is started, what of it is tested, and what TPM_SaveState kept (Part 1, 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import UINT8
from hwtpm.wire import SECRET, Fixed, ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1


class Tested(IntEnum):
    """How far self-tests have come (Part 1, 7.2)."""

    LIMITED = 0  # what Startup, SHA1 and Extend need
    FULL = 1
    FAILED = 2


class _Section(Wire):
    tag: Annotated[bytes, Fixed(4)]
    octets: Annotated[bytes, Sized(0xFFFFFFFF, prefix="I"), SECRET]


class _Permanent(Wire):
    version: UINT8
    sections: Annotated[list[_Section], ListOf(255, prefix="B")]


class _Volatile(Wire):
    version: UINT8
    started: UINT8
    tested: UINT8
    failure: Annotated[bytes, Sized(255, prefix="B")]


class Power(Owner):
    """The state machine between TPM_Init and loss of power.

    `failure` tells what put the TPM into failure mode; empty while it works.  `saved` is the volatile state
    of every owner by its TAG that TPM_SaveState kept: permanent, and gone with the next command that is not
    TPM_Startup.
    """

    TAG: ClassVar[bytes] = b"powr"

    def __init__(self) -> None:
        super().__init__()
        self.started = False  # TPM_STANY_FLAGS.postInitialise is the opposite
        self.tested = Tested.LIMITED
        self.failure = ""
        self.saved: dict[bytes, bytes] = {}

    def fail(self, why: str) -> None:
        """The TPM is in failure mode until power goes: *why* is one line for TPM_GetTestResult."""
        self.tested, self.failure = Tested.FAILED, why

    def keep(self, volatile: Mapping[bytes, bytes]) -> None:
        """TPM_SaveState has kept *volatile*."""
        self.saved = dict(volatile)
        self.touch()

    def forget(self) -> None:
        """What TPM_SaveState kept counts no more."""
        if self.saved:
            self.saved = {}
            self.touch()

    def startup(self, start: Start) -> None:
        """The TPM is started; what was tested before the power went counts no more."""
        self.started = True
        self.tested = Tested.LIMITED
        self.forget()

    def save(self) -> bytes:
        """Return version and what TPM_SaveState kept."""
        return encode(_Permanent(_FORMAT, [_Section(tag, octets) for tag, octets in self.saved.items()]))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"power state of version {found.version}")
        self.saved = {section.tag: section.octets for section in found.sections}

    def save_volatile(self) -> bytes:
        """Return whether the TPM is started and tested, and why it failed."""
        return encode(_Volatile(_FORMAT, self.started, self.tested, self.failure.encode()))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"volatile power state of version {found.version}")
        self.started, self.tested = bool(found.started), Tested(found.tested)
        self.failure = found.failure.decode()

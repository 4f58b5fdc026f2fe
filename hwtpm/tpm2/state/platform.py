"""What the platform firmware sets: physical presence, algorithm set, read-only mode (Part 3, 24.9 and 26)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Final

from hwtpm.tpm2.profile import ALGORITHM_SETS, MAX_CAP_CC
from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.base import UINT8, UINT32
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1
_ALWAYS: Final = c.TPM_CC_PP_Commands
GATED: Final = frozenset({
    c.TPM_CC_ChangeEPS, c.TPM_CC_ChangePPS, c.TPM_CC_Clear, c.TPM_CC_ClearControl, c.TPM_CC_ClockRateAdjust,
    c.TPM_CC_ClockSet, c.TPM_CC_CreateLoaded, c.TPM_CC_CreatePrimary, c.TPM_CC_EvictControl,
    c.TPM_CC_HierarchyChangeAuth, c.TPM_CC_HierarchyControl, c.TPM_CC_NV_DefineSpace,
    c.TPM_CC_NV_DefineSpace2, c.TPM_CC_NV_GlobalWriteLock, c.TPM_CC_NV_UndefineSpace,
    c.TPM_CC_NV_UndefineSpaceSpecial, c.TPM_CC_PCR_Allocate, c.TPM_CC_PCR_SetAuthPolicy,
    c.TPM_CC_ReadOnlyControl, c.TPM_CC_SetCapability, c.TPM_CC_SetCommandCodeAuditStatus,
    c.TPM_CC_SetPrimaryPolicy,
})
"""The commands that can be made to need physical presence: "+{PP}" in the tables of Part 3."""


def left_out(number: int) -> frozenset[int]:
    """Return the algorithms that the algorithm set *number* does not have."""
    return frozenset().union(*(algs for bit, algs in ALGORITHM_SETS.items() if number & bit))


class _Permanent(Wire):
    version: UINT8
    algorithm_set: UINT32
    established: FLAG
    gated: Annotated[list[UINT32], ListOf(MAX_CAP_CC, prefix="H")]


class _Volatile(Wire):
    version: UINT8
    read_only: FLAG


class _Live(Wire):
    version: UINT8
    resumable: FLAG


class Platform(Owner):
    """`gated` are the commands that need physical presence when they are authorized by the platform.

    `algorithm_set` is a number of TPM2_SetAlgorithmSet, and `left_out` the algorithms that it leaves out.
    `established` tells that there was a dynamic launch since the platform last reset the bit (TPM_ACCESS, PC
    Client PTP).  In `read_only` mode commands that change permanent state are refused.
    """

    TAG: ClassVar[bytes] = b"plat"

    def __init__(self) -> None:
        super().__init__()
        self.gated = frozenset({_ALWAYS})
        self.algorithm_set = 0
        self.left_out: frozenset[int] = frozenset()
        self.established = False
        self.read_only = False
        self.resumable = True  # a TPM Resume may follow: TPM2_SetAlgorithmSet has not been used in this run

    def gate(self, added: Iterable[int], removed: Iterable[int]) -> None:
        """The commands of *added* need physical presence, then those of *removed* do not any more.

        Commands that cannot be gated are ignored; TPM2_PP_Commands always is (Part 3, 26.2).
        """
        gated = ((self.gated | (set(added) & GATED)) - set(removed)) | {_ALWAYS}
        if gated != self.gated:
            self.gated = gated
            self.touch()

    def select_algorithms(self, number: int) -> None:
        """The algorithm set is *number*; the state of this run cannot be resumed (Part 3, 26.3)."""
        self._use(number)
        self.resumable = False
        self.touch()

    def _use(self, number: int) -> None:
        self.algorithm_set, self.left_out = number, left_out(number)

    def establish(self, established: bool) -> None:
        """Set `established`."""
        if established != self.established:
            self.established = established
            self.touch()

    def startup(self, start: Start) -> None:
        """Only a TPM Resume keeps the read-only mode (Part 1, 42.2)."""
        self.resumable = True
        if start is not Start.RESUME:
            self.read_only = False

    def save(self) -> bytes:
        """Return version, algorithm set, `established` and the gated commands."""
        return encode(_Permanent(_FORMAT, self.algorithm_set, self.established, sorted(self.gated)))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"platform state of version {found.version}")
        self._use(found.algorithm_set)
        self.established = bool(found.established)
        self.gated = frozenset(found.gated)

    def save_volatile(self) -> bytes:
        """Return version and the mode."""
        return encode(_Volatile(_FORMAT, self.read_only))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"platform state of version {found.version}")
        self.read_only = bool(found.read_only)

    def save_live(self) -> bytes:
        """Return version and `resumable`."""
        return encode(_Live(_FORMAT, self.resumable))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave."""
        found = decode(_Live, state)
        if found.version != _FORMAT:
            raise ValueError(f"platform state of version {found.version}")
        self.resumable = bool(found.resumable)

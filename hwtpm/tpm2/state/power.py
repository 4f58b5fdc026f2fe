"""Whether the TPM is started, how it last stopped, what is tested (Part 1, "TPM Operational States")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final

from hwtpm.tpm2.state.owner import FLAG, Owner, Start
from hwtpm.tpm2.types.base import UINT8, UINT16
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR
from hwtpm.wire import SECRET, Fixed, ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
_DISORDERLY: Final = 0xFF  # in place of the TPM_SU of the last Shutdown


class _Section(Wire):
    tag: Annotated[bytes, Fixed(4)]
    octets: Annotated[bytes, Sized(0xFFFFFFFF, prefix="I"), SECRET]


class _Permanent(Wire):
    version: UINT8
    orderly: UINT8
    locality: UINT8
    sections: Annotated[list[_Section], ListOf(255, prefix="B")]


class _Live(Wire):
    version: UINT8
    started: FLAG
    start: UINT8  # which of _STARTS
    failed: FLAG
    was_orderly: FLAG
    is_kept: FLAG
    kept: Annotated[list[_Section], ListOf(255, prefix="B")]
    tested: Annotated[list[UINT16], ListOf(255, prefix="B")]


_STARTS: Final = (None, *Start)


class Power(Owner):
    """The state machine between _TPM_Init and loss of power.

    `orderly` is the TPM_SU of the last Shutdown while that still counts, else None; it is permanent, as is
    `saved`, the volatile state of every owner by its TAG that Shutdown(STATE) kept.  A new TPM is orderly:
    nothing of it was lost.
    """

    TAG: ClassVar[bytes] = b"powr"

    def __init__(self) -> None:
        super().__init__()
        self.started = False
        self.failed = False  # failure mode (Part 1, "Failure Mode")
        self.start: Start | None = None  # how the TPM came up
        self.was_orderly = True  # before the Startup: TPMA_STARTUP_CLEAR_ORDERLY
        self.orderly: int | None = TPM_SU_CLEAR
        self.locality = 0  # of the last Startup: a TPM Resume has to come from the same
        self.saved: dict[bytes, bytes] = {}
        self.kept: dict[bytes, bytes] | None = None  # volatile state at a Shutdown that still counts
        self._unsaved_start = False
        self.tested: set[int] = set()  # algorithms whose self-test has passed since power on

    def begin(self, start: Start, locality: int) -> None:
        """The TPM has been started; from here on a loss of power is not orderly."""
        self.started, self.start, self.locality = True, start, locality
        self.was_orderly = self.orderly is not None
        self._unsaved_start = True
        self.nullify()

    def shutdown(self, kind: int, volatile: Mapping[bytes, bytes], *, keep: bool) -> None:
        """The Shutdown *kind* (TPM_SU) counts until the state changes; with *keep*, *volatile* is stored."""
        self.orderly = kind
        self.kept = dict(volatile)
        self.saved = dict(volatile) if keep else {}
        self.touch()

    def nullify(self) -> None:
        """The last Shutdown does not count any more (Part 3, 9.4.1)."""
        self.orderly, self.kept, self.saved = None, None, {}
        self.touch()

    def save(self) -> bytes:
        """Return version, the last Shutdown, the locality of the Startup, and what Shutdown(STATE) kept."""
        return encode(_Permanent(
            _FORMAT, _DISORDERLY if self.orderly is None else self.orderly, self.locality,
            _sections(self.saved),
        ))

    def stored(self) -> None:
        super().stored()
        self._unsaved_start = False

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; a Startup that was never saved has not happened."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"power state of version {found.version}")
        self.orderly = None if found.orderly == _DISORDERLY else found.orderly
        self.locality = found.locality
        self.saved = {section.tag: section.octets for section in found.sections}
        self.kept = None
        if self._unsaved_start:
            self.started, self.start, self._unsaved_start = False, None, False

    def save_live(self) -> bytes:
        """Return version, how the TPM came up, the modes, `kept` and what is tested."""
        return encode(_Live(
            _FORMAT, self.started, _STARTS.index(self.start), self.failed, self.was_orderly,
            self.kept is not None, _sections(self.kept or {}), sorted(self.tested),
        ))

    def restore_live(self, state: bytes) -> None:
        """Take what `save_live` gave."""
        found = decode(_Live, state)
        if found.version != _FORMAT or found.start >= len(_STARTS):
            raise ValueError(f"power state of version {found.version}")
        self.started, self.start = bool(found.started), _STARTS[found.start]
        self.failed, self.was_orderly = bool(found.failed), bool(found.was_orderly)
        self.kept = {section.tag: section.octets for section in found.kept} if found.is_kept else None
        self.tested = set(found.tested)


def _sections(parts: Mapping[bytes, bytes]) -> list[_Section]:
    return [_Section(tag, octets) for tag, octets in parts.items()]

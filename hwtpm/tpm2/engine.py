"""A TPM 2.0 as an object: power on, execute, snapshot.  No I/O, no clock and no randomness of its own."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import StateError, TpmError
from hwtpm.tpm2 import commands
from hwtpm.tpm2.commands.startup import recheck
from hwtpm.tpm2.context import COMMANDS, Tpm
from hwtpm.tpm2.dispatch import error_response, execute
from hwtpm.tpm2.launch import Launch
from hwtpm.tpm2.types.constants import TPM_RC_FAILURE

_MAGIC = b"cusetpm 2.0\0"
_VERSION = 1
_SECTION = Struct(">4sI")
_HEAD = Struct(f">{len(_MAGIC)}sHH")


def _never() -> bool:
    return False


class Outcome(NamedTuple):
    """What a command came to: its response, and whether permanent state must be stored before it leaves."""

    response: bytes
    dirty: bool


class Engine:
    """One TPM 2.0 from power-on to power-off.

    *entropy* gives that many random octets; *now* gives milliseconds that never go back.  With a *snapshot*
    the TPM is the one that gave it, after a loss of power; without, it is newly manufactured, and a *seed*
    makes its primary seeds and proofs reproducible.  *primes*, if given, has primes of bits and exponent that
    were found ahead, each pair once, or None; ordinary RSA keys take them, primaries never.  Calls of
    `execute` must be serialised by the caller.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], int], snapshot: bytes | None = None,
                 seed: bytes | None = None,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None) -> None:
        commands.load()
        self.tpm = Tpm(entropy, now)
        self.tpm.primes = primes
        self._launch = Launch(self.tpm)
        self.fault: Exception | None = None  # the defect that put this TPM into failure mode
        self._sections: dict[bytes, bytes] = {}
        if snapshot is None:
            made_from = CtrDrbg(seed).generate if seed is not None else self.tpm.random
            self.tpm.hierarchies.manufacture(made_from)
            for owner in self.tpm.owners:
                owner.touch()
        else:
            self._apply(_sections(snapshot), self.tpm)

    def execute(self, command: bytes, locality: int = 0, cancelled: Callable[[], bool] = _never) -> Outcome:
        """Run *command*, which came from *locality* 0 to 4; any octets get exactly one response.

        A command that takes long asks *cancelled* again and again, and ends with TPM_RC_CANCELED when it is
        true; nothing has changed then.  The engine keeps no request to cancel of its own: who sent the
        command knows whether a request is meant for it, so none is lost and none hits the next command.

        A defect of the engine puts this TPM into failure mode (TPM_RC_FAILURE) and is kept in `fault`; what
        the command changed is not reported as dirty then.
        """
        tpm = self.tpm
        tpm.locality = locality
        tpm.cancelled = cancelled
        try:
            response = execute(tpm, command)
            if tpm.power.kept is not None:
                recheck(tpm)
        except Exception as fault:  # The guest must not be able to end the process with a defect of ours.
            self.fault = fault
            tpm.power.failed = True
            return Outcome(error_response(TPM_RC_FAILURE), False)
        return Outcome(response, self.dirty)

    @property
    def dirty(self) -> bool:
        """Tell whether permanent state has changed since the last snapshot."""
        for owner in self.tpm.owners:  # noqa: SIM110 - this way half as dear, and every command asks
            if owner.dirty:
                return True
        return False

    def hash_start(self) -> None:
        """The platform starts to measure what it launches (_TPM_Hash_Start)."""
        self._launch.start()

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched (_TPM_Hash_Data)."""
        self._launch.data(data)

    def hash_end(self) -> None:
        """What was launched is in its PCR (_TPM_Hash_End); `dirty` tells whether that has to be stored."""
        self._launch.end()

    def establish(self, established: bool) -> None:
        """The platform's record of a dynamic launch is SET or CLEAR: permanent, and for the platform only."""
        self.tpm.platform.establish(established)

    @property
    def established(self) -> bool:
        """Tell what `establish` was last told."""
        return self.tpm.platform.established

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* is one that may search primes or do comparable work."""
        entry = COMMANDS.get(int.from_bytes(command[6:10], "big"))
        return entry is not None and entry.request.LONG

    def snapshot(self) -> bytes:
        """Return the permanent state; only owners whose state has changed encode theirs again."""
        for owner in self.tpm.owners:
            if owner.dirty or owner.TAG not in self._sections:
                self._sections[owner.TAG] = owner.save()
                owner.dirty = False
        pieces = [_HEAD.pack(_MAGIC, _VERSION, len(self._sections))]
        for tag, section in self._sections.items():
            pieces += (_SECTION.pack(tag, len(section)), section)
        return b"".join(pieces)

    def rollback(self, snapshot: bytes) -> None:
        """Make the permanent state that of *snapshot*; volatile state stays.

        Raises StateError when *snapshot* is not one that this version can read; nothing has changed then.
        """
        sections = _sections(snapshot)
        # Owners take their sections one by one.  That all can be taken shows with owners of no value.
        self._apply(sections, Tpm(bytes, lambda: 0))
        self._apply(sections, self.tpm)

    def _apply(self, sections: dict[bytes, bytes], tpm: Tpm) -> None:
        """The permanent state of *tpm* is that of *sections*, or, if this raises StateError, undefined."""
        if sections.keys() != {owner.TAG for owner in tpm.owners}:
            raise StateError("the TPM state has other sections than this version of cusetpm knows")
        try:
            for owner in tpm.owners:
                owner.restore(sections[owner.TAG])
                owner.dirty = False
        except (TpmError, ValueError) as error:
            raise StateError(f"the TPM state is damaged: {error}") from error
        if tpm is self.tpm:
            self._sections = sections


def _sections(snapshot: bytes) -> dict[bytes, bytes]:
    """Split a snapshot: magic, UINT16 version, UINT16 count, then tag[4], UINT32 size and octets each."""
    try:
        magic, version, count = _HEAD.unpack_from(snapshot)
        if magic != _MAGIC:
            raise StateError("this is not the state of a TPM 2.0")
        if version != _VERSION:
            raise StateError(f"the TPM state has version {version}; this version of cusetpm reads {_VERSION}")
        off = _HEAD.size
        sections: dict[bytes, bytes] = {}
        for _ in range(count):
            tag, size = _SECTION.unpack_from(snapshot, off)
            off += _SECTION.size
            sections[tag] = snapshot[off : off + size]
            off += size
    except StructError:
        raise StateError("the TPM state is cut short") from None
    if off != len(snapshot):
        raise StateError("the TPM state is cut short")
    return sections

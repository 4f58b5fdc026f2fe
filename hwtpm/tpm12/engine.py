"""A TPM 1.2 as an object: power on, execute, snapshot.  No I/O, no clock and no randomness of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from hwtpm import snapshot as frame
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.ids import SHA1
from hwtpm.tpm12 import commands, selftest
from hwtpm.tpm12.context import COMMANDS, VENDOR_COMMANDS, Tpm
from hwtpm.tpm12.dispatch import error_response, execute
from hwtpm.tpm12.launch import Launch
from hwtpm.tpm12.types.codes import TPM_FAIL

PERMANENT_VERSION: Final = 1
RUNNING_VERSION: Final = 1
_PERMANENT: Final = (b"cusetpm 1.2\0", PERMANENT_VERSION)
_RUNNING: Final = (b"cusetpm1 run", RUNNING_VERSION)


def _never() -> bool:
    return False


class Engine:
    """One TPM 1.2 from power-on to power-off.

    *entropy* gives that many random octets; *now* gives milliseconds that never go back.  With a *snapshot*
    the TPM is the one that gave it, after a loss of power; without, it is newly manufactured, and a *seed*
    makes its secrets reproducible.  With a *running* state as well (`snapshot_running`) no power was lost:
    the TPM goes on from there, as if no time had passed.  *primes*, if given, has primes of bits and exponent
    that were found ahead, each pair once, or None.  Calls of `execute` must be serialised by the caller.

    Raises MissingPrimitive where this machine's cryptographic library refuses what a TPM 1.2 cannot do
    without, and StateError when the state is damaged, of another version, or the one is not of the other.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], int], snapshot: bytes | None = None,
                 seed: bytes | None = None,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None,
                 running: bytes | None = None) -> None:
        commands.load()
        selftest.require_primitives()
        self.tpm = Tpm(entropy, now)
        self.tpm.primes = primes
        self.tpm.execute = partial(execute, self.tpm)
        self._launch = Launch(self.tpm)
        self.fault: Exception | None = None  # the defect that put this TPM into failure mode
        self._sections: dict[bytes, bytes] = {}
        if snapshot is None:
            self.tpm.permanent.manufacture(CtrDrbg(seed).generate if seed is not None else self.tpm.random)
            for owner in self.tpm.owners:
                owner.touch()
        else:
            self._apply(frame.unpack(*_PERMANENT, "TPM 1.2", snapshot), self.tpm)
        if running is not None:
            assert snapshot is not None, "a running state is one of a snapshot"
            self._resume(frame.unpack_running(*_RUNNING, "running TPM 1.2", running, snapshot))
        selftest.run_limited(self.tpm)

    def made_from(self, seed: bytes) -> bool:
        """Tell whether *seed* made this TPM, as far as that can be seen by a secret that it still has."""
        return self.tpm.permanent.was_made_from(CtrDrbg(seed).generate)

    def execute(self, command: bytes, locality: int = 0,
                cancelled: Callable[[], bool] = _never) -> tuple[bytes, bool]:
        """Run *command*, which came from *locality* 0 to 4; any octets get exactly one response.

        Returns it, and whether permanent state has changed and must be stored before the response leaves.
        A command that takes long asks *cancelled* again and again, and ends with TPM_FAIL when it is true;
        nothing has changed then.  A defect of the engine puts this TPM into failure mode (TPM_FAIL) and is
        kept in `fault`; what the command changed is not reported as dirty then.
        """
        tpm = self.tpm
        tpm.locality = locality
        tpm.cancelled = cancelled
        try:
            response = execute(tpm, command)
        except Exception as fault:  # The guest must not be able to end the process with a defect of ours.
            self.fault = fault
            tpm.power.fail("internal error")
            return error_response(TPM_FAIL), False
        return response, tpm.changes.any

    @property
    def dirty(self) -> bool:
        """Tell whether permanent state has changed since the last snapshot."""
        return self.tpm.changes.any

    def hash_start(self) -> None:
        """The platform starts to measure what it launches (TPM_HASH_START)."""
        self._launch.start()

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched (TPM_HASH_DATA)."""
        self._launch.data(data)

    def hash_end(self) -> None:
        """What was launched is in its PCR (TPM_HASH_END)."""
        self._launch.end()

    def establish(self, established: bool) -> None:
        """The record of a dynamic launch, TPM_PERMANENT_FLAGS.tpmEstablished, is TRUE or FALSE."""
        self.tpm.flags.set(tpm_established=established)

    @property
    def established(self) -> bool:
        """Tell what `establish` was last told."""
        return bool(self.tpm.flags.permanent.tpm_established)

    def attach(self, parent: Callable[[bytes, bytes, int], bytes] | None) -> None:
        """There is a chip below this TPM: *parent* gives its quotes, as `Tpm.parent` says."""
        self.tpm.parent = parent

    def begin_with(self, values: Mapping[tuple[int, int], bytes]) -> None:
        """PCRs, by algorithm and number, have these values after a Startup that clears them.

        Those of banks that this TPM does not have are left out.
        """
        self.tpm.pcrs.initial = {index: value for (alg, index), value in values.items() if alg == SHA1}

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* is one that may search primes or do comparable work."""
        ordinal = int.from_bytes(command[6:10], "big")
        entry = COMMANDS.get(ordinal) or VENDOR_COMMANDS.get(ordinal)
        return entry is not None and entry.request.LONG

    def snapshot(self) -> bytes:
        """Return the permanent state, which counts as stored from now on.

        Only owners whose state has changed encode theirs again.
        """
        snapshot = self._permanent()
        for owner in self.tpm.owners:
            owner.dirty = False
        self.tpm.changes.any = False
        return snapshot

    def _permanent(self) -> bytes:
        for owner in self.tpm.owners:
            if owner.PERMANENT and (owner.dirty or owner.TAG not in self._sections):
                self._sections[owner.TAG] = owner.save()
        return frame.pack(*_PERMANENT, self._sections)

    def snapshot_running(self) -> bytes:
        """Return all that lives until power goes, as it is between two commands; nothing changes by that.

        It goes with the permanent state that `snapshot` returns before the next command, and no other.
        """
        sections = {owner.TAG: owner.save_volatile() for owner in self.tpm.owners}
        sections[self.tpm.random.TAG] = self.tpm.random.save_live()
        sections[self._launch.TAG] = self._launch.save_live()
        return frame.pack_running(*_RUNNING, sections, self._permanent())

    def _resume(self, sections: dict[bytes, bytes]) -> None:
        """The TPM is running as *sections* say; StateError when they are damaged."""
        random, launch, daa = self.tpm.random, self._launch, self.tpm.daa
        sections.setdefault(daa.TAG, daa.save_volatile())  # A state from before there was DAA has none.
        frame.resume({owner.TAG: owner.restore_volatile for owner in self.tpm.owners}
                     | {random.TAG: random.restore_live, launch.TAG: launch.restore_live}, sections)

    def rollback(self, snapshot: bytes) -> None:
        """Make the permanent state that of *snapshot*; volatile state stays.

        Raises StateError when *snapshot* is not one that this version can read; nothing has changed then.
        """
        sections = frame.unpack(*_PERMANENT, "TPM 1.2", snapshot)
        # Owners take their sections one by one.  That all can be taken shows with owners of no value.
        self._apply(sections, Tpm(bytes, lambda: 0))
        self._apply(sections, self.tpm)

    def _apply(self, sections: dict[bytes, bytes], tpm: Tpm) -> None:
        """The permanent state of *tpm* is that of *sections*, or, if this raises StateError, undefined."""
        frame.restore([owner for owner in tpm.owners if owner.PERMANENT], sections)
        tpm.changes.any = False
        if tpm is self.tpm:
            self._sections = sections

"""A TPM 2.0 as an object: power on, execute, snapshot.  No I/O, no clock and no randomness of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hwtpm import snapshot as frame
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.errors import TpmError
from hwtpm.tpm2 import commands
from hwtpm.tpm2.commands.startup import recheck
from hwtpm.tpm2.context import COMMANDS, VENDOR_COMMANDS, Tpm
from hwtpm.tpm2.dispatch import error_response, execute
from hwtpm.tpm2.launch import Launch
from hwtpm.tpm2.state.owner import Owner
from hwtpm.tpm2.types.constants import TPM_RC_FAILURE

PERMANENT_VERSION: Final = 1
RUNNING_VERSION: Final = 1
_PERMANENT: Final = (b"cusetpm 2.0\0", PERMANENT_VERSION)
_RUNNING: Final = (b"cusetpm2 run", RUNNING_VERSION)
_SIZE: Final = 4  # octets of the size of the volatile part, in a section of the running state


def _never() -> bool:
    return False


class Engine:
    """One TPM 2.0 from power-on to power-off.

    *entropy* gives that many random octets; *now* gives milliseconds that never go back.  With a *snapshot*
    the TPM is the one that gave it, after a loss of power; without, it is newly manufactured, and a *seed*
    makes its primary seeds and proofs reproducible.  With a *running* state as well (`snapshot_running`) no
    power was lost: the TPM goes on from there, as if no time had passed.  *primes*, if given, has primes of
    bits and exponent that were found ahead, each pair once, or None; ordinary RSA keys take them, primaries
    never.  Calls of `execute` must be serialised by the caller.

    Raises StateError when the state is damaged, of another version, or the one is not of the other.
    """

    def __init__(self, entropy: Callable[[int], bytes], now: Callable[[], int], snapshot: bytes | None = None,
                 seed: bytes | None = None,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None,
                 running: bytes | None = None) -> None:
        commands.load()
        self.tpm = Tpm(entropy, now)
        self.tpm.primes = primes
        self._launch = Launch(self.tpm)
        self.fault: Exception | None = None  # the defect that put this TPM into failure mode
        self._sections: dict[bytes, bytes] = {}
        if snapshot is None:
            made_from = CtrDrbg(seed).generate if seed is not None else self.tpm.random
            self.tpm.hierarchies.manufacture(made_from)
            self.tpm.fresh = True
            for owner in self.tpm.owners:
                owner.touch()
        else:
            self._apply(frame.unpack(*_PERMANENT, "TPM 2.0", snapshot), self.tpm)
        if running is not None:
            assert snapshot is not None, "a running state is one of a snapshot"
            self._resume(frame.unpack_running(*_RUNNING, "running TPM 2.0", running, snapshot))

    def made_from(self, seed: bytes) -> bool:
        """Tell whether *seed* made this TPM, as far as that can be seen by a secret that it still has."""
        return self.tpm.hierarchies.was_made_from(CtrDrbg(seed).generate)

    def execute(self, command: bytes, locality: int = 0,
                cancelled: Callable[[], bool] = _never) -> tuple[bytes, bool]:
        """Run *command*, which came from *locality* 0 to 4; any octets get exactly one response.

        Returns it, and whether permanent state has changed and must be stored before the response leaves.
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
            try:
                response = execute(tpm, command)
            except TpmError as error:
                response = error_response(error.rc)
            if tpm.power.kept is not None:
                recheck(tpm)
        except Exception as fault:  # The guest must not be able to end the process with a defect of ours.
            self.fault = fault
            tpm.power.failed = True
            return error_response(TPM_RC_FAILURE), False
        return response, tpm.changes.any

    @property
    def dirty(self) -> bool:
        """Tell whether permanent state has changed since the last snapshot."""
        return self.tpm.changes.any

    def hash_start(self) -> None:
        """The platform starts to measure what it launches (_TPM_Hash_Start)."""
        self._launch.start()

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched (_TPM_Hash_Data)."""
        self._launch.data(data)

    def hash_end(self) -> None:
        """What was launched is in its PCR (_TPM_Hash_End); `dirty` tells whether that has to be stored."""
        self._launch.end()

    def presence(self, there: bool) -> None:
        """Somebody is, or is not, at the platform: physical presence, which some commands may need."""
        self.tpm.physical_presence = there

    def establish(self, established: bool) -> None:
        """The platform's record of a dynamic launch is SET or CLEAR: permanent, and for the platform only."""
        self.tpm.platform.establish(established)

    @property
    def established(self) -> bool:
        """Tell what `establish` was last told."""
        return self.tpm.platform.established

    def attach(self, parent: Callable[[bytes, bytes, int], bytes] | None) -> None:
        """There is a chip below this TPM: *parent* gives its quotes, as `Tpm.parent` says."""
        self.tpm.parent = parent

    def begin_with(self, values: Mapping[tuple[int, int], bytes]) -> None:
        """PCRs, by algorithm and number, have these values after a Startup that clears them.

        Those of banks that this TPM does not have are left out.
        """
        self.tpm.pcrs.initial = dict(values)

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* is one that may search primes or do comparable work."""
        code = int.from_bytes(command[6:10], "big")
        entry = COMMANDS.get(code) or VENDOR_COMMANDS.get(code)
        return entry is not None and entry.request.LONG

    def snapshot(self) -> bytes:
        """Return the permanent state, which counts as stored from now on.

        Only owners whose state has changed encode theirs again.
        """
        snapshot = self._permanent()
        for owner in self.tpm.owners:
            if owner.dirty:
                owner.stored()
        self.tpm.changes.any = False
        return snapshot

    def _permanent(self) -> bytes:
        for owner in self.tpm.owners:
            if owner.dirty or owner.TAG not in self._sections:
                self._sections[owner.TAG] = owner.save()
        return frame.pack(*_PERMANENT, self._sections)

    def snapshot_running(self) -> bytes:
        """Return all that lives until power goes, as it is between two commands; nothing changes by that.

        It goes with the permanent state that `snapshot` returns before the next command, and no other.
        """
        sections = {}
        for owner in self.tpm.owners:
            volatile = owner.save_volatile()
            sections[owner.TAG] = len(volatile).to_bytes(_SIZE, "big") + volatile + owner.save_live()
        sections[self.tpm.random.TAG] = self.tpm.random.save_live()
        sections[self._launch.TAG] = self._launch.save_live()
        return frame.pack_running(*_RUNNING, sections, self._permanent())

    def _resume(self, sections: dict[bytes, bytes]) -> None:
        """The TPM is running as *sections* say; StateError when they are damaged."""
        def taker(owner: Owner) -> Callable[[bytes], None]:
            def take(section: bytes) -> None:
                end = _SIZE + int.from_bytes(section[:_SIZE], "big")
                owner.restore_volatile(section[_SIZE:end])
                owner.restore_live(section[end:])

            return take

        random, launch = self.tpm.random, self._launch
        frame.resume({owner.TAG: taker(owner) for owner in self.tpm.owners}
                     | {random.TAG: random.restore_live, launch.TAG: launch.restore_live}, sections)

    def rollback(self, snapshot: bytes) -> None:
        """Make the permanent state that of *snapshot*; volatile state stays.

        Raises StateError when *snapshot* is not one that this version can read; nothing has changed then.
        """
        sections = frame.unpack(*_PERMANENT, "TPM 2.0", snapshot)
        # Owners take their sections one by one.  That all can be taken shows with owners of no value.
        self._apply(sections, Tpm(bytes, lambda: 0))
        self._apply(sections, self.tpm)

    def _apply(self, sections: dict[bytes, bytes], tpm: Tpm) -> None:
        """The permanent state of *tpm* is that of *sections*, or, if this raises StateError, undefined."""
        frame.restore(tpm.owners, sections)
        tpm.changes.any = False
        if tpm is self.tpm:
            self._sections = sections

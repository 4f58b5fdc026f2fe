"""Builds the whole picture for one state directory, and takes it apart again.

    front end -> ring -> guest (vTPM) -> ring -> manager -> TIS driver -> registers -> chip

The manager is domain 1; the vTPM of guest number n is domain 2 + 2n and the guest itself domain 3 + 2n.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING
from uuid import UUID

from cusetpm.chips import ChipWay, open_chip
from cusetpm.devices.swtpm.abi import PTM_BLOB_TYPE_PERMANENT, PTM_BLOB_TYPE_VOLATILE, TPM_BAD_TYPE
from cusetpm.guest import Guest
from cusetpm.primepool import PrimePool
from cusetpm.progress import Progress, untold
from cusetpm.ring.front import TpmFront
from cusetpm.ring.link import Host, Link, connect
from cusetpm.rm.manager import ResourceManager
from cusetpm.settings import NAME as SETTINGS
from cusetpm.settings import Settings, auth, pcr_bits
from cusetpm.settings import read as read_settings
from cusetpm.statedir import StateDirectory
from cusetpm.transport import Cancelled
from cusetpm.trouble import Trouble
from hwtpm.client import Client
from hwtpm.errors import ProtocolError, StateError, TpmError
from hwtpm.family import Family, family, response_code
from manager.manager import Manager
from manager.opening import RootClosed
from manager.patience import Patient
from manager.protocol import Endpoint
from manager.sealing import SealingChip
from manager.sealing20 import Chip20, Secrets
from manager.service import Service
from manager.vtpms import Connection

if TYPE_CHECKING:
    from manager.attesting import AttestingChip
    from manager.quote import Meaning
    from manager.sealing12 import Secrets as Secrets12

log = logging.getLogger(__name__)

_MANAGER_DOMID = 1
COUNT_INTERVAL_MS = 1000
"""How old a copy of the manager's store can be, at most, that would still pass for the newest."""


class _Wire:
    """The guest's end of the outer ring; the first command that it takes has the start accepted."""

    def __init__(self, kind: Family, front: TpmFront, accept: Callable[[], None]) -> None:
        self._family = kind
        self._execute = front.execute
        self.execute = self._first
        self.cancel, self.takes_long = front.cancel, front.takes_long
        self._accept: Callable[[], None] | None = accept

    def _first(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        if self._accept is not None:
            try:
                self._accept()
            except (OSError, StateError, ProtocolError):
                return self._family.unsaved
            self._accept = None
            self.execute = self._execute
        return self._execute(command, locality, cancelled)


class Device:
    """One guest's TPM: a `Transport` through the guest's end of the outer ring, and a `Machine` around it.

    `manager`, if there is one, gives spaces of the same TPM, and every command from outside goes through it.
    Power and state are the toolstack's to give and reach the vTPM past the rings, as in Xen.  What the start
    has changed is stored by `accept`, or by the first command from outside; until then the start can be given
    up, and nothing of it remains.
    """

    def __init__(self, name: str, kind: Family, guest: Guest, outer: Link, inner: Link,
                 trouble: Trouble, accept: Callable[[Device], None], leave: Callable[[], None]) -> None:
        self.name = name
        self.trouble = trouble
        self.family = kind.name
        self._family = kind
        self.guest, self.outer, self.inner = guest, outer, inner
        self._store = accept
        self._leave = leave
        self._accepting = Lock()
        self._accepted = False
        self._refused: Exception | None = None  # why what the start has changed could not be stored
        self._wire = _Wire(kind, outer.front, self.accept)
        # There are no resource managers for TPM 1.2 (nor does Linux have one).
        self.manager = ResourceManager(self._wire) if kind.name == "2.0" else None
        way = self._wire if self.manager is None else self.manager
        self.execute, self.cancel, self.takes_long = way.execute, way.cancel, way.takes_long
        self.abort = outer.front.abort
        self.hash_start, self.hash_data, self.hash_end = guest.hash_start, guest.hash_data, guest.hash_end
        self.reset_established, self.presence = guest.reset_established, guest.presence

    def accept(self) -> None:
        """What the start has changed is durable, and so is from now on all that is acknowledged.

        Raises OSError, StateError or ProtocolError, one line for people, when it cannot be made so; then this
        TPM is of no use any more.
        """
        with self._accepting:
            if self._refused is not None:
                raise self._refused
            if not self._accepted:
                try:
                    self._store(self)
                except (OSError, StateError, ProtocolError) as error:
                    # What the manager met says more than its answer to the vTPM.
                    self._refused = self.trouble.cause or error
                    raise self._refused from None
                self.trouble.silent = False
                self._accepted = True

    def start_up(self, kind: str) -> None:
        """Send the Startup that firmware would have sent, "clear" or "state"; raises TpmError."""
        code = response_code(self.outer.front.execute(self._family.startup[kind]))
        if code:
            raise TpmError(code)

    @property
    def running(self) -> bool:
        """Tell whether the vTPM has power."""
        return self.guest.engine is not None

    @property
    def established(self) -> bool:
        """Tell whether a measured launch is on record."""
        return self.guest.established

    def power_on(self, *, keep_volatile: bool = True) -> None:
        """The vTPM, which had no power, goes on or starts, as `Guest.power_on` says."""
        self.accept()
        self.guest.power_on(keep_suspended=keep_volatile)

    def power_off(self, *, orderly: bool = True) -> None:
        """The vTPM has no power; if *orderly*, it was shut down first, by its guest or here."""
        if orderly and self.running and not self.guest.shut_down:
            self._shut_down_first()
        self.guest.power_off()
        if self.manager is not None:
            self.manager.lose()

    def _shut_down_first(self) -> None:
        code = 0
        for command in self._family.shutdown:
            code = response_code(self.execute(command))
            if code in (0, self._family.not_started):
                return
        if self.trouble.cause is None:
            log.warning("vTPM %s: no orderly shutdown: %s", self.guest.uuid, self._family.rc_name(code))

    def store_volatile(self) -> None:
        """The next `power_on`, if no command comes before, resumes the vTPM as it is now."""
        self.accept()
        self._give_way()
        self.guest.suspend()

    def _give_way(self) -> None:
        """The vTPM holds what its guest loaded: spaces are of this process, and not of its state."""
        if self.manager is not None:
            self.manager.give_way()

    def get_state(self, kind: int) -> bytes | None:
        """Return the state of *kind* (PTM_BLOB_TYPE_), None if there is none."""
        if kind == PTM_BLOB_TYPE_PERMANENT:
            self.accept()
            return self.guest.permanent()
        if kind == PTM_BLOB_TYPE_VOLATILE:
            self._give_way()
            self.guest.forget_suspended()
            return self.guest.running()
        # What a shutdown, or TPM_SaveState, keeps is a part of the permanent state.
        return None

    def set_state(self, kind: int, state: bytes) -> None:
        """The next `power_on` takes *state*; empty takes back what was set."""
        if kind == PTM_BLOB_TYPE_PERMANENT:
            self.guest.give_permanent(state or None)
        elif kind == PTM_BLOB_TYPE_VOLATILE:
            self.guest.give_running(state or None)
        elif state:
            raise TpmError(TPM_BAD_TYPE)

    def lock(self, retries: int) -> bool:
        """Tell that the storage is ours, as it is as long as the state directory is open."""
        return True

    def unlock(self) -> None:
        """Nobody else may have the storage as long as the state directory is open."""

    def close(self) -> None:
        """Shut down in an orderly way, unless that was the last command; then all of it is gone.

        A start that was never accepted has not happened.
        """
        if self._accepted:
            self.power_off()
        self.outer.close()
        self.guest.close()
        self.inner.close()
        self._leave()


def _way_to(settings: Settings, way: ChipWay) -> Callable[[bytes], bytes]:
    """Return what sends the manager's commands to the chip."""
    def execute(command: bytes) -> bytes:
        return way.execute(command, settings.locality)

    return Patient(execute, time.monotonic, time.sleep)


def sealing(settings: Settings, way: ChipWay) -> SealingChip:
    """Return the chip at the end of *way* as the manager always needs it."""
    execute = _way_to(settings, way)
    if settings.chip == "1.2":  # its client is imported for that only
        from hwtpm.client12 import Client as Client12
        from manager.sealing12 import Chip12

        return Chip12(Client12(execute, os.urandom), os.urandom, settings.locality, _secrets12(settings))
    return Chip20(Client(execute, os.urandom), os.urandom, _secrets20(settings))


def _attesting(settings: Settings, way: ChipWay) -> AttestingChip:
    """Return the chip at the end of *way* with all that it can do."""
    execute = _way_to(settings, way)
    if settings.chip == "1.2":
        from hwtpm.client12 import Client as Client12
        from manager import identity12

        return identity12.Chip12(Client12(execute, os.urandom), os.urandom, settings.locality,
                                 _secrets12(settings))
    from manager import identity20

    return identity20.Chip20(Client(execute, os.urandom), os.urandom, _secrets20(settings))


def _secrets12(settings: Settings) -> Secrets12:
    from manager import sealing12

    return sealing12.Secrets(auth(settings.owner_auth), auth(settings.srk_auth))


def _secrets20(settings: Settings) -> Secrets:
    # A TPM 2.0 leaves out zeros at the end of a secret (Part 1, "Authorization Values").
    owner, srk = (auth(spec).rstrip(b"\0") for spec in (settings.owner_auth, settings.srk_auth))
    return Secrets(owner, settings.srk_handle, srk)


def _meaning(settings: Settings) -> Meaning:
    from manager.quote import Meaning

    return Meaning(settings.quote_pcrs == "documented", settings.extern_data == "documented")


class System:
    """Chip, manager and vTPMs of one state directory, running.

    *chip* is the family of the chip; without it, DIR/manager.toml says that, as it says all else about the
    chip.  *now* gives milliseconds that never go back; *scratch* is where temporary files may lie; a *key*
    encrypts the NV of a chip of our own, and with it everything.  Raises StateError, one line for people,
    when the directory cannot be used, and OSError from the file system.

    With *accept_rollback* the manager takes old copies, as `Manager` says; *restoring* is for who puts back a
    backup.  With *recovering*, a machine in a configuration that does not open the store has a manager that
    can only be recovered.

    `progress` is told how far what takes long for its administrator is.

    A start works in memory until a device is accepted (docs/adr/0008-a-start-that-is-refused.md), but for
    what it asks of a chip outside.  Only a
    directory without a complete store of the manager is written to before, and if it was empty, `close` makes
    it so again.
    """

    def __init__(self, path: Path, now: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000, *,
                 scratch: Path | None = None, chip: str | None = None, key: bytes = b"",
                 accept_rollback: bool = False, restoring: bool = False,
                 recovering: bool = False) -> None:
        self.progress: Progress = untold
        self._now = now
        self._host = Host()
        self._devices: list[Device] = []
        self._troubles: list[Trouble] = []
        self._counting = Trouble("the manager's saves cannot be counted by the chip", self._troubles)
        with ExitStack() as stack:
            self._primes = PrimePool()
            stack.callback(self._primes.close)
            self.state = StateDirectory(path, restoring=restoring)
            stack.callback(self.state.close)
            settings = read_settings(path)
            if chip is not None and chip != settings.chip:
                if (path / SETTINGS).exists():
                    raise StateError(f"{path / SETTINGS}: the chip is a TPM {settings.chip}, not {chip}")
                settings = replace(settings, chip=chip)
            self.settings = settings
            self.chip = open_chip(settings, self.state.chip, now, self._primes.take, key)
            stack.callback(self.chip.close)
            its_chip = sealing(settings, self.chip)
            self.manager: Manager
            try:
                self.manager = Manager(
                    self.state.manager, its_chip, os.urandom, pcr_bits(settings.pcrs), now=now,
                    interval=COUNT_INTERVAL_MS, held=True, scratch=scratch, auto_create=settings.auto_create,
                    accept_rollback=accept_rollback)
            except RootClosed as error:
                if not recovering:
                    raise
                from manager.closed import ClosedManager

                self.manager = ClosedManager(self.state.manager, its_chip, os.urandom, error.pcrs, scratch)
            self.service = Service(
                self.manager, its_chip, lambda: _attesting(settings, self.chip), os.urandom,
                meaning=lambda: _meaning(settings), guests_administrate=settings.administrator == "first",
                now=now)
            stack.callback(self.manager.close, self._not_counted)
            if self.manager.new:
                # Its counter has to be in the chip, durably, before anything can be counted.
                self.chip.release()
                self.manager.release()
            self._stopping = Event()
            counting = Thread(target=self._count, name="count saves", daemon=True)
            counting.start()
            stack.callback(counting.join)
            stack.callback(self._stopping.set)
            self._stack = stack.pop_all()

    def release(self) -> None:
        """What the start has changed is durable, and so is what follows; raises OSError and StateError."""
        self.manager.release()
        self.chip.release()
        self.state.keep()

    def add_guest(self, name: str, seed: bytes | None = None, *, tpm: str = "2.0",
                  powered: bool = True, resume: bool = False, bare: bool = False,
                  label: str = "", hwinitpcr: bytes = bytes(3), boot_hash: bool = False) -> Device:
        """Return the device of the vTPM *name*, connected, and with power unless *powered* is false.

        *tpm* is its family; with *resume* it goes on from where it was suspended.  A vTPM that the state
        directory does not have yet is manufactured, from *seed* if given, and as `Guest` says if *bare*.
        Its *label* tells the manager what it runs.
        *hwinitpcr* and *boot_hash* say what its PCRs begin with (`cusetpm.parent`).
        """
        kind = family(tpm)
        uuid, path = self.state.guest(name)
        vtpm = 2 + 2 * len(self._devices)
        trouble = Trouble(f"vTPM {name}: its state cannot be saved", self._troubles, silent=True)
        endpoint = Endpoint(self.service, Connection(uuid, f"vTPM {name}", label),
                            lambda error: trouble.met(self._cause(error)))
        inner = connect(endpoint, front_domid=vtpm, back_domid=_MANAGER_DOMID,
                        uuid=str(uuid), host=self._host)
        try:
            guest = Guest(kind, uuid, path, inner.front, os.urandom, self._now, seed, self._primes.take,
                          powered=powered, resume=resume, bare=bare, trouble=trouble, chip=self.settings.chip,
                          hwinitpcr=hwinitpcr, boot_hash=boot_hash)
        except BaseException as error:
            inner.close()
            endpoint.close()
            if isinstance(error, ProtocolError) and trouble.cause is not None:
                # What the manager met says more than its answer to the vTPM.
                raise trouble.cause from None
            raise
        try:
            outer = connect(guest, front_domid=vtpm + 1, back_domid=vtpm, uuid=str(uuid), host=self._host)
        except BaseException:
            guest.close()
            inner.close()
            endpoint.close()
            raise
        device = Device(name, kind, guest, outer, inner, trouble, self._accept, endpoint.close)
        self._devices.append(device)
        return device

    def stopped(self, name: str) -> tuple[UUID, Path]:
        """Return UUID and state file of the vTPM *name*; StateError if there is none, or if it runs."""
        if name not in self.state.names().values():
            raise StateError(f"{self.state.path}: there is no vTPM {name}")
        uuid, path = self.state.guest(name)
        if any(device.guest.uuid == uuid for device in self._devices):
            raise StateError(f"vTPM {name} is running; shut it down first")
        return uuid, path

    def _accept(self, device: Device) -> None:
        """Store what the start of *device* has changed.

        The order matters if power goes in between: the store that the chip has counted is on the device
        before the count is, and both before the vTPM's first save.
        """
        self.manager.release()
        self.chip.release()
        self.state.make_guest(device.name, device.guest.uuid)
        device.guest.release()
        self.state.keep()

    def _count(self) -> None:
        """Have the chip count the manager's saves, an interval after they were made at the latest."""
        while not self._stopping.wait(COUNT_INTERVAL_MS / 1000):
            try:
                self.manager.count()
            except (StateError, TpmError, ProtocolError, OSError) as error:
                self._not_counted(error)
            else:
                self._counting.over()

    def _not_counted(self, error: Exception) -> None:
        self._counting.met(self._cause(error))

    def _cause(self, error: Exception) -> Exception:
        """Return why the manager has failed with *error*."""
        if self.chip.failure is not None:
            return self.chip.failure
        return StateError(f"{self.state.manager}: {error}") if isinstance(error, StateError) else error

    def counts(self) -> dict[str, int]:
        """Return what has crossed each box so far."""
        return {
            "guest ring commands": sum(d.outer.front.finished for d in self._devices),
            "guest saves": sum(d.guest.saves for d in self._devices),
            "manager ring commands": sum(d.inner.front.finished for d in self._devices),
            "manager saves": self.manager.saves,
            **self.chip.counts(),
        }

    def close(self) -> None:
        """Everything is shut down in order, and the state directory free for others; safe to call twice."""
        while self._devices:
            self._devices.pop().close()
        self._stack.close()

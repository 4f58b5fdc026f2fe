"""One vTPM: an engine, its sealed state, and the rule that it is saved before it replies.

Two slots take turns (`hwtpm.slots`), and which record is the truth follows from what the manager keeps
(`cusetpm.records`).  So the order is: write and synchronise the record, tell the manager, and only then let
the response go.  The manager makes a new key durable at once, the number of a record under a key that it has
within its interval.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import UUID

from cusetpm.parent import Parent
from cusetpm.records import Record, seal, truth
from cusetpm.suspended import Suspended
from cusetpm.transport import Cancelled, Transport
from cusetpm.trouble import Trouble
from hwtpm.crypto import aead
from hwtpm.errors import ProtocolError, StateError
from hwtpm.family import Engine, Family, response_code
from hwtpm.slots import Slots
from manager import protocol

log = logging.getLogger(__name__)

_FORWARDED: Final = {b"\x01\xc2": b"\x01\xc2", b"\x01\xc1": b"\x00\xc1"}
"""What tags of commands that are not for the vTPM become: VTPM_TAG_REQ2, and VTPM_TAG_REQ for the chip."""


class Guest:
    """The vTPM with *uuid*, a `Transport`; a new one is manufactured where the manager knows none.

    Nothing of it is stored before `release`: until then, power can go as if it had never come.

    *family* is what it is manufactured as; its state has to be of that family.
    *path* names its state without the slot's number; *manager* leads to the manager's endpoint for this UUID.
    *entropy*, *now* and *primes* are those of `Engine`; a *seed* is what a new vTPM is made from, or one that
    is there was made from.  It has power from the start unless *powered* is false; with *resume* it goes on
    from where it was suspended.  A new TPM 1.2 that is *bare* has no endorsement key, and NV storage that is
    not locked.  *trouble* hears why state could not be saved; *chip*, *hwinitpcr* and *boot_hash*
    are those of `Parent`.  Raises StateError, one line for people, when
    state, manager and seed do not agree; nothing is changed then.
    """

    def __init__(self, family: Family, uuid: UUID, path: Path, manager: Transport,
                 entropy: Callable[[int], bytes], now: Callable[[], int], seed: bytes | None = None,
                 primes: Callable[[int, int], tuple[int, int] | None] | None = None, *,
                 powered: bool = True, resume: bool = False, bare: bool = False,
                 trouble: Trouble | None = None, chip: str = "2.0", hwinitpcr: bytes = bytes(3),
                 boot_hash: bool = False) -> None:
        self.uuid = uuid
        self._trouble = trouble or Trouble(f"vTPM {uuid}: its state cannot be saved", [])
        self.saves = 0  # records that the manager has made the truth
        self.engine: Engine | None = None  # while there is power
        self._manager = manager
        self._parent = Parent(manager, uuid, family, chip, hwinitpcr, boot_hash)
        self._family = family
        self._make: Callable[..., Engine] = partial(
            family.make, entropy, now, seed=seed, primes=primes, **(family.bare if bare else {}))
        self._lock = Lock()
        self._cancel = False  # of the command in progress, if it came without a *cancelled*
        self._executed = 0  # commands
        self._shut_down_at = -1  # what that was at the last orderly Shutdown or suspension
        self._in_doubt = False  # a save failed half-way: the manager has to say which record is the truth
        self._held = True
        self._number = 0  # the highest that a record here has had
        self._told = b""  # what the manager keeps of the record that is the truth
        self._failed: Record | None = None  # the record of a save that failed half-way
        self._given: bytes | None = None  # a permanent state to start from instead of the durable one
        self._given_running: bytes | None = None  # the state of a running TPM that goes with it
        self._suspended = Suspended(path.with_name(f"{path.name}.running"), uuid.bytes)
        self._slots = Slots(path)
        try:
            self._record = self._load()
            if powered:
                try:
                    self.engine = self._resumed() if resume else None
                    self.engine = self._connected(self.engine or self._make(self._durable))
                except StateError as error:
                    raise StateError(f"{path}: {error}") from error
                if seed is not None and not self.engine.made_from(seed):
                    raise StateError(f"{path}: this TPM was not made from this seed, or its secrets have all "
                                     f"been replaced since; use it without a seed, or take another directory "
                                     f"for a new TPM")
        except BaseException:
            self._slots.close()
            raise

    def release(self) -> None:
        """What has changed since power-on is durable, as all is that follows.

        Raises OSError, StateError or ProtocolError, one line for people, when it cannot be made so.
        """
        with self._lock:
            if self._held:
                if self.engine is not None:
                    if self.engine.dirty:
                        self._save(self.engine)
                    self._suspended.remove()
                if self._record is not None and self._record.kept != self._told:
                    self._tell(self._record)
                self._held = False

    def close(self) -> None:
        """The vTPM has lost its power for good."""
        with self._lock:
            self.engine = None
            self._slots.close()

    def power_on(self, *, keep_suspended: bool = False) -> None:
        """The released vTPM, which had no power, goes on or starts.

        It goes on from the running state that was given, or else from the one in which it was suspended,
        which is kept for once more if *keep_suspended*; without either it starts from its permanent state or
        from the one given last.  Raises StateError when that is damaged, and OSError, ProtocolError or
        StateError when one that is new cannot be made durable; there is no power then.
        """
        with self._lock:
            assert self.engine is None
            assert not self._held
            self._be_sure()
            given, self._given = self._given, None
            running, self._given_running = self._given_running, None
            state = self._durable if given is None else given
            if running is not None:
                engine = self._make(state, running=running)
            else:
                engine = (self._resumed() if given is None else None) or self._make(state)
            if state is None or state != self._durable:
                try:
                    self._save(engine)
                except (OSError, ProtocolError, StateError):
                    self._in_doubt = True
                    raise
            if not keep_suspended:
                self._suspended.remove()
            self.engine = self._connected(engine)

    def _connected(self, engine: Engine) -> Engine:
        """Return *engine*, which has got power, as a TPM below which there are manager and chip."""
        engine.attach(self._parent.quote)
        engine.begin_with(self._parent.initial_pcrs())
        return engine

    def _resumed(self) -> Engine | None:
        """Return the engine as it was suspended; None if it was not, or was used since."""
        if self._record is None:
            return None
        running = self._suspended.load(self._record.kept)
        return self._make(self._record.snapshot, running=running) if running is not None else None

    def power_off(self) -> None:
        """The vTPM has no power any more, once the command in progress has ended."""
        with self._lock:
            self.engine = None
            self._shut_down_at = -1

    def execute(self, command: bytes, locality: int = 0, cancelled: Cancelled | None = None) -> bytes:
        """Return the response to *command*; what it changed is durable by then.

        When it cannot be made durable the answer is TPM_RC_NV_UNAVAILABLE (TPM 1.2: TPM_FAIL), and the last
        durable state is that of the vTPM again.  Without power it is TPM_RC_FAILURE (TPM_FAIL).

        A command with a tag of the manager's goes to it, as in Xen (stubdom/vtpm/vtpm.c: check_passthru):
        VTPM_TAG_REQ2 is for the manager itself, VTPM_TAG_REQ for the chip.
        """
        if command[:1] == b"\1" and command[:2] in _FORWARDED:
            return self._manager.execute(_FORWARDED[bytes(command[:2])] + command[2:])
        # The lock by name, because a with statement takes twice as long in Python 3.11.
        lock = self._lock
        lock.acquire()
        try:
            engine = self.engine
            if engine is None:
                return self._family.failed
            if self._in_doubt and not self._settle():
                return self._family.unsaved
            self._cancel = False
            self._executed += 1
            response, dirty = engine.execute(command, locality, cancelled or self._cancelled)
            if engine.fault is not None:
                log.error("vTPM %s is in failure mode", self.uuid, exc_info=engine.fault)
                engine.fault = None
            if dirty:
                destroyed = self._family.destroys(command) and not response_code(response)
                if not self._held and not self._stored(engine, renew=destroyed):
                    return self._family.unsaved
                if self._family.shuts_down(command) and not response_code(response):
                    self._shut_down_at = self._executed
            return response
        finally:
            lock.release()

    @property
    def shut_down(self) -> bool:
        """Tell whether no command came since `suspend` or a Shutdown, which always changes state."""
        return self._executed == self._shut_down_at

    def cancel(self) -> None:
        """Ask the command in progress to end, if it cannot ask its sender."""
        self._cancel = True

    def _cancelled(self) -> bool:
        return self._cancel

    def takes_long(self, command: bytes) -> bool:
        """Tell whether *command* may search primes."""
        engine = self.engine
        return engine is not None and engine.takes_long(command)

    # What the platform does to a vTPM with power; without, nothing happens.

    def hash_start(self) -> None:
        """The platform begins to measure what it launches, and the launch is on record (_TPM_Hash_Start)."""
        def act(engine: Engine) -> None:
            engine.establish(True)
            engine.hash_start()

        self._platform(act)

    def hash_data(self, data: bytes) -> None:
        """*data* is the next part of what is launched (_TPM_Hash_Data)."""
        self._platform(lambda engine: engine.hash_data(data))

    def hash_end(self) -> None:
        """What was launched is in its PCR (_TPM_Hash_End)."""
        self._platform(lambda engine: engine.hash_end())

    @property
    def established(self) -> bool:
        """Tell whether a launch is on record since `reset_established`."""
        engine = self.engine
        return engine is not None and engine.established

    def reset_established(self) -> None:
        """No launch is on record."""
        self._platform(lambda engine: engine.establish(False))

    def presence(self, there: bool) -> None:
        """Somebody is, or is not, at the platform; for a family that has no such signal nothing happens."""
        tell = self._family.presence
        if tell is not None:
            self._platform(lambda engine: tell(engine, there))

    def _platform(self, act: Callable[[Engine], None]) -> None:
        """Do *act*; StateError when what it changed cannot be made durable, and nothing has changed then."""
        with self._lock:
            if self.engine is None:
                return
            self._be_sure()
            act(self.engine)
            if self.engine.dirty and not self._held and not self._stored(self.engine):
                raise StateError(f"vTPM {self.uuid}: its state cannot be saved")

    # State as a whole.

    def permanent(self) -> bytes:
        """Return the permanent state of the released vTPM, which is durable; it has been manufactured."""
        with self._lock:
            self._be_sure()
            assert self._record is not None
            return self._record.snapshot

    def running(self) -> bytes:
        """Return all that goes with power; it belongs to what `permanent` returns before the next command.

        Raises StateError for a vTPM without power.
        """
        with self._lock:
            return self._running()

    def suspend(self) -> None:
        """The running state is stored: the next `power_on` goes on from there, if no command comes before."""
        with self._lock:
            running = self._running()
            assert self._record is not None
            self._suspended.store(running, self._record.kept)
            # What a shutdown would keep is kept.
            self._shut_down_at = self._executed

    def forget_suspended(self) -> None:
        """No running state is stored."""
        with self._lock:
            self._suspended.remove()

    def _running(self) -> bytes:
        if self.engine is None:
            raise StateError(f"vTPM {self.uuid} has no power, so there is no running state")
        self._be_sure()
        return self.engine.snapshot_running()

    def give_permanent(self, state: bytes | None) -> None:
        """The next `power_on` starts from *state*; None: from the durable one, as if none had been given.

        Raises StateError when it is not the permanent state of a vTPM; none is given then.  A running state
        that was given before is not.
        """
        with self._lock:
            self._given = self._given_running = None
            if state is not None:
                self._make(state)
                self._given = state

    def give_running(self, state: bytes | None) -> None:
        """The next `power_on` goes on from *state*; None: as if none had been given.

        Raises StateError when it does not belong to the permanent state that was given, or to the durable
        one; neither counts as given then.
        """
        with self._lock:
            given, self._given = self._given, None
            self._given_running = None
            if state is not None:
                permanent = self._durable if given is None else given
                if permanent is None:
                    raise StateError(f"vTPM {self.uuid}: no running state can be taken")
                self._make(permanent, running=state)
            self._given, self._given_running = given, state

    @property
    def _durable(self) -> bytes | None:
        """The permanent state in the record that is the truth, None for a vTPM that is new."""
        return None if self._record is None else self._record.snapshot

    def _stored(self, engine: Engine, *, renew: bool = False) -> bool:
        """Make durable what has changed in *engine*; False if that fails, and nothing has changed then."""
        try:
            self._save(engine, renew=renew)
        except (OSError, ProtocolError, StateError) as error:
            self._trouble.met(error)
            self._in_doubt = True
            self._settle()
            return False
        return True

    def _save(self, engine: Engine, *, renew: bool = False) -> None:
        """Make the state of *engine* durable in the slot that does not hold the truth.

        With *renew*, nothing opens the records of before any more.
        """
        key = None if self._record is None or renew else self._record.key
        slot = 0 if self._record is None else 1 - self._record.slot
        self._number += 1
        record, octets = seal(engine.snapshot(), slot, self._number, key or os.urandom(aead.KEY_SIZE),
                              self.uuid)
        self._failed = record
        self._slots.write(slot, octets)
        self._tell(record)
        self._record, self._failed = record, None
        self.saves += 1
        self._trouble.over()

    def _tell(self, record: Record) -> None:
        """The manager knows *record*, which is in its slot."""
        self._ask(protocol.save_hash_key(record.kept))
        self._told = record.kept

    def _be_sure(self) -> None:
        """It is known which state is durable; StateError if that cannot be learned now."""
        if self._in_doubt and not self._settle():
            raise StateError(f"vTPM {self.uuid}: which state is the last one cannot be learned now")

    def _settle(self) -> bool:
        """Go back to the state that the manager calls the truth; False if it cannot be learned now."""
        failed = self._failed
        try:
            if failed is not None and self._ask(protocol.load_hash_key()) != failed.kept:
                # Its number is higher than that of the truth, for which it must not pass at the next start.
                with suppress(OSError):
                    self._slots.clear(failed.slot)
            record = self._load()
        except (OSError, ProtocolError, StateError) as error:
            self._trouble.met(error)
            return False
        if record is not None and record.kept != self._told:
            return False  # It could not be cleared.
        if self.engine is not None:
            if record is None:
                return False
            self.engine.rollback(record.snapshot)
        self._record, self._failed, self._in_doubt = record, None, False
        return True

    def _load(self) -> Record | None:
        """Return the record that is the truth; None for a vTPM that is new."""
        self._told = self._ask(protocol.load_hash_key())
        record = truth(self._slots, self._told, self.uuid)
        if record is not None:
            self._number = max(self._number, record.number)
        return record

    def _ask(self, request: bytes) -> bytes:
        return protocol.open_response(self._manager.execute(request), request)

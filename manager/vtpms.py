"""vTPMs: who may open one, what opens it, and what administrators do with them.

A vTPM is opened by one connection at a time.  What it runs is told by the hash of its label, as in Xen,
where a trusted domain builder would have to measure it: SHA-1 of the label, or of the label with "*" in the
place of its first part (the XSM user) if the group does not list the first.  Once a group has a configuration
list, only kernels that are in it open its vTPMs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from threading import Lock
from typing import Final, NamedTuple
from uuid import UUID

from hwtpm.crypto import hashes, ids
from hwtpm.tpm12.types.codes import (
    TPM_AUTHFAIL,
    TPM_BAD_PARAMETER,
    TPM_BADINDEX,
    TPM_DISABLED,
    TPM_FAIL,
)
from manager.book import Closed, Moved, NoVtpm
from manager.manager import Manager
from manager.model import ADMIN, HASH_KEY_MAX, HASH_KEY_MIN, ROOT, Group, Vtpm
from manager.refused import Refused

VTPM_FLAG_OPEN: Final = 1 << 31
"""A flag that VTPM_SHOW adds: somebody uses the vTPM (Xen vtpm_disk.h)."""
NO_KERNEL: Final = bytes(20)


class Connection:
    """One who is connected to the manager: the vTPM *uuid*, or, without one, an administrator.

    *name* is for people and *label* tells what the vTPM runs.  An *administrator* may do everything.
    """

    def __init__(self, uuid: UUID | None, name: str = "", label: str = "", *,
                 administrator: bool = False) -> None:
        self.uuid, self.label, self.administrator = uuid, label, administrator
        self.name = name or (f"vTPM {uuid}" if uuid else "an administrator")
        self.opened = False
        self.kernel = NO_KERNEL



class VtpmShown(NamedTuple):
    """What is known of a vTPM: the index and the UUID of its group, VTPM_FLAG_ bits, and what may open it.

    A *kernel* of zeros stands for all kernels that its group allows.
    """

    group: int
    group_uuid: UUID
    flags: int
    kernel: bytes


class Vtpms:
    """The vTPMs of *manager*; safe to use from any thread.

    Only if *guests_administrate*, a vTPM with the flag ADMIN may manage.  Every method raises Refused, and
    otherwise what the manager and the chip raise.
    """

    def __init__(self, manager: Manager, entropy: Callable[[int], bytes], *,
                 guests_administrate: bool = True) -> None:
        self._manager, self._entropy = manager, entropy
        self._guests_administrate = guests_administrate
        self._open: dict[UUID, Connection] = {}
        self._lock = Lock()

    # What a vTPM does

    def save(self, connection: Connection, hash_key: bytes) -> None:
        """*hash_key*, 52 to 64 octets, is what the vTPM gets back from now on.

        A vTPM that nobody has made is made in the first group, if the manager does that.
        """
        uuid = uuid_of(connection)
        if not HASH_KEY_MIN <= len(hash_key) <= HASH_KEY_MAX:
            raise Refused(TPM_BAD_PARAMETER, f"{len(hash_key)} octets to keep")
        with self._usable():
            self._verify(connection, uuid, creating=True)
            try:
                self._manager.save_hash_key(uuid, hash_key)
            except BaseException:
                if not connection.opened:
                    self.leave(connection)
                raise
            connection.opened = True

    def load(self, connection: Connection) -> bytes:
        """Return what the vTPM has saved last; TPM_BAD_PARAMETER if it has not."""
        uuid = uuid_of(connection)
        with self._usable():
            self._verify(connection, uuid, creating=False)
            found = self._manager.load_hash_key(uuid)
        if found is None:
            raise Refused(TPM_BAD_PARAMETER, "")  # what every new vTPM is told
        return found

    def boot_hash(self, connection: Connection) -> bytes:
        """Return the 20 octets that stand for what the vTPM runs, zeros if it has no label."""
        uuid = uuid_of(connection)
        if not connection.opened:
            number = self._manager.find(uuid)
            group = self._manager.group(ROOT if number is None else number)
            connection.kernel = _listed(kernel_hashes(connection.label), set(group.kernels))
        return connection.kernel

    def administrates(self, connection: Connection) -> bool:
        """Tell whether the connection may manage: an administrator's, or that of an administrative vTPM."""
        if connection.administrator:
            return True
        if not (self._guests_administrate and connection.opened and connection.uuid):
            return False
        try:
            return bool(self._manager.vtpm(connection.uuid).flags & ADMIN)
        except (Closed, NoVtpm):
            return False

    def leave(self, connection: Connection) -> None:
        """The connection is over; somebody else may open its vTPM."""
        with self._lock:
            if connection.uuid is not None and self._open.get(connection.uuid) is connection:
                del self._open[connection.uuid]
            connection.opened = False

    # What administrators do

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Nobody opens or leaves a vTPM meanwhile."""
        with self._lock:
            yield

    def connection(self, uuid: UUID) -> Connection | None:
        """Return the connection that has the vTPM open."""
        return self._open.get(uuid)

    def is_open(self, uuid: UUID) -> bool:
        """Tell whether somebody uses the vTPM."""
        return uuid in self._open

    def list(self, index: int, offset: int, limit: int) -> tuple[int, list[UUID]]:
        """Return how many vTPMs the group has, and *limit* of them at most, from *offset* on."""
        number = open_group(self._manager, index)
        found = self._manager.vtpms(number)
        return len(found), found[offset : offset + limit]

    def new(self, index: int, uuid: UUID | None) -> UUID:
        """There is one more vTPM in the group, with a random UUID if none is given.

        TPM_FAIL if there is a vTPM with that UUID.
        """
        number = open_group(self._manager, index)
        made = uuid or UUID(bytes=self._entropy(16), version=4)
        with self._manager.change() as change:
            if change.find(made) is not None:
                raise Refused(TPM_FAIL, f"there is a vTPM {made} already")
            change.put_vtpm(made, Vtpm(), number)
        return made

    def delete(self, uuid: UUID) -> None:
        """The vTPM is gone, and so is its key; TPM_FAIL while it is open."""
        with self.settled():
            self._check_not_open(uuid)
            self._number_of(uuid)
            with self._manager.change() as change:
                change.remove_vtpm(uuid)

    def show(self, uuid: UUID) -> VtpmShown:
        """Return what is known of the vTPM."""
        number = self._number_of(uuid)
        vtpm, group = self._manager.vtpm(uuid), self._manager.group(number)
        flags = vtpm.flags | (VTPM_FLAG_OPEN if self.is_open(uuid) else 0)
        return VtpmShown(self._manager.groups().index(number), UUID(bytes=group.uuid), flags,
                         vtpm.kernel or NO_KERNEL)

    def edit(self, uuid: UUID, index: int, flags: int, kernel: bytes) -> None:
        """The vTPM is in that group, may administrate or not, and is opened by that kernel.

        TPM_BAD_PARAMETER for flags other than ADMIN; TPM_FAIL to move it while it is open.
        """
        number = self._number_of(uuid)
        wanted = open_group(self._manager, index)
        if flags & ~ADMIN:
            raise Refused(TPM_BAD_PARAMETER, f"flags 0x{flags:x} cannot be set")
        with self.settled(), self._manager.change() as change:
            if number != wanted:
                self._check_not_open(uuid)
            vtpm = change.vtpm(uuid)
            vtpm.flags = vtpm.flags & ~ADMIN | flags
            vtpm.kernel = b"" if kernel == NO_KERNEL else kernel
            change.put_vtpm(uuid, vtpm, wanted)
            if number != wanted:
                change.renew(number)  # What opens older copies of the vTPM is gone.

    def _verify(self, connection: Connection, uuid: UUID, *, creating: bool) -> None:
        """The vTPM is this connection's, if there is one or it is just being made, else TPM_DISABLED."""
        if connection.opened:
            return
        with self._lock:
            if self._open.get(uuid, connection) is not connection:
                raise Refused(TPM_DISABLED, "it is open already: one vTPM cannot run twice")
            number = self._manager.find(uuid)
            group = self._manager.group(ROOT if number is None else number)
            vtpm = Vtpm() if number is None else self._manager.vtpm(uuid)
            stands_for = kernel_hashes(connection.label)
            connection.kernel = _listed(stands_for, {*group.kernels, vtpm.kernel})
            if (installed(group) and not set(group.kernels).intersection(stands_for)) or (
                    vtpm.kernel and vtpm.kernel not in stands_for):
                raise Refused(TPM_DISABLED, f"its kernel {connection.kernel.hex()} (label "
                                            f"{connection.label!r}) is not one that may open it")
            if number is not None or creating:
                self._open[uuid] = connection
                connection.opened = number is not None

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """What keeps the vTPM from being used has the return codes of Xen."""
        try:
            yield
        except (Closed, Moved) as error:
            raise Refused(TPM_DISABLED, str(error)) from None
        except NoVtpm:
            raise Refused(TPM_BAD_PARAMETER, "nobody has made this vTPM") from None

    def _number_of(self, uuid: UUID) -> int:
        """Return the number of the group of the vTPM; TPM_FAIL if there is no such vTPM."""
        number = self._manager.find(uuid)
        if number is None:
            raise Refused(TPM_FAIL, f"there is no vTPM {uuid}")
        if self._manager.closed(number) is not None:
            raise Refused(TPM_AUTHFAIL, f"the group of vTPM {uuid} is closed")
        return number

    def _check_not_open(self, uuid: UUID) -> None:
        if self.is_open(uuid):
            raise Refused(TPM_FAIL, f"vTPM {uuid} is running")


def group_number(manager: Manager, index: int) -> int:
    """Return the number of the group with that index in the list of groups; TPM_BADINDEX without one."""
    numbers = manager.groups()
    if index >= len(numbers):
        raise Refused(TPM_BADINDEX, f"there is no group {index}")
    return numbers[index]


def open_group(manager: Manager, index: int) -> int:
    """Return the number of the group with that index; TPM_AUTHFAIL if it is closed."""
    number = group_number(manager, index)
    if manager.closed(number) is not None:
        raise Refused(TPM_AUTHFAIL, f"group {index} is closed; recover it")
    return number


def installed(group: Group) -> bool:
    """Tell whether the group has got a configuration list."""
    return bool(group.sequence or group.platforms or group.kernels)


def kernel_hashes(label: str) -> list[bytes]:
    """Return the hashes that stand for what has that label (Xen find_vtpm_khash).

    That of the label comes first, and last that of the label with "*" in the place of its first part, which
    Xen takes if the group does not list the first.
    """
    if not label:
        return [NO_KERNEL]
    user, colon, _ = label.partition(":")
    return [_sha1(label), *([_sha1(f"*{label[len(user) :]}")] if colon and user else [])]


def _listed(stands_for: Sequence[bytes], listed: Set[bytes]) -> bytes:
    """Return the first of the hashes that is *listed*, the last of them if none is."""
    return next((found for found in stands_for if found in listed), stands_for[-1])


def _sha1(text: str) -> bytes:
    return hashes.digest(ids.SHA1, text.encode())


def uuid_of(connection: Connection) -> UUID:
    """Return the UUID of the vTPM; TPM_BAD_PARAMETER for an administrator, who has none."""
    if connection.uuid is None:
        raise Refused(TPM_BAD_PARAMETER, "this is a request of vTPMs")
    return connection.uuid

"""The kernel's conversation about a file without I/O: messages in, replies and actions out.

`FileProtocol` is what /dev/cuse and a mount whose root is a file have in common; `CuseProtocol` is that of
/dev/cuse.  `receive` takes one message of the kernel and returns what to do, in this order: octets are to be
written to where it came from, each with one write; an `Execute` is to be executed and its outcome brought to
`finish` or `fail`, which return more octets to write; a `Cancel` names an `Execute` that is in progress and
whose client may be dying, or has gone; an `Ioctl` is to be run, which may take a while, and returns octets to
write.

A message that the kernel cannot have sent raises ProtocolError; one that merely asks for the impossible
is answered with an errno.  Calls are serialised by the device.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from struct import Struct
from typing import ClassVar, Final, NamedTuple, TypeAlias

from cusetpm.devices.cuse import abi
from cusetpm.devices.cuse.control import ControlFile, is_control
from cusetpm.devices.session import TPM_BUFSIZE, AnyDevice, Session, Submit, refused
from cusetpm.devices.swtpm.control import Control
from cusetpm.transport import Transport
from hwtpm.errors import ProtocolError

MAX_WRITE: Final = 2 * TPM_BUFSIZE
"""What the kernel may send in one message: larger than a command, so that a write of too much arrives
whole and is refused, instead of being cut into a command and a rest."""

READ_BUFFER: Final = 2 * abi.FUSE_MIN_READ_BUFFER
"""Room for every message, in octets: the largest is a FUSE_WRITE with MAX_WRITE octets."""


_BODY: Final = abi.IN_HEADER.size
_unpack_header = abi.IN_HEADER.unpack_from


class Execute(NamedTuple):
    """A command to execute, by *transport*.  *queued*: its write has returned already."""

    unique: int
    handle: int
    tid: int
    written: int
    queued: bool
    submit: Submit
    transport: Transport


class Cancel(NamedTuple):
    """A command in progress that its client may not wait for any more.

    *gone*: the file was closed; otherwise a signal arrived, and only a fatal one counts.
    """

    execute: Execute
    gone: bool


class Ioctl(NamedTuple):
    """A control command to run; it returns the reply."""

    run: Callable[[], bytes]


Action: TypeAlias = bytes | Execute | Cancel | Ioctl


class _File:
    """An open file: a session and what CUSE needs beside it."""

    __slots__ = ("control", "executing", "poll_kh", "session")

    def __init__(self, session: Session, control: ControlFile | None) -> None:
        self.session = session
        self.control = control
        self.executing: Execute | None = None
        self.poll_kh: int | None = None  # whom to tell of a change


_Members: TypeAlias = tuple[int, ...]
_FileRequest: TypeAlias = Callable[[int, int, _File, _Members, bytes], list[Action]]
"""unique, thread, open file, members of the request's structure, octets after it -> what to do."""


class FileProtocol:
    """A file that opens *device*; with a *control*, it has the ioctls of swtpm.

    *INIT* is the message that begins the conversation, which `_init` answers.
    """

    INIT: ClassVar[int]

    def __init__(self, device: AnyDevice, control: Control | None = None) -> None:
        self._device = device
        self._control = control
        self._initialised = False
        self._handle = 0  # the one given out last
        self._files: dict[int, _File] = {}
        # What is asked of the device, and of an open file: there the handle is always the first member.
        self._requests: dict[int, Callable[[int, bytes], list[Action]]] = {
            abi.FUSE_OPEN: self._open,
            abi.FUSE_INTERRUPT: self._interrupt,
            abi.FUSE_FLUSH: lambda unique, body: [reply(unique)],
            # The kernel's TPM device does not know this.
            abi.FUSE_FSYNC: lambda unique, body: [error_reply(unique, errno.EINVAL)],
        }
        self._file_requests: dict[int, tuple[Struct, _FileRequest]] = {
            abi.FUSE_READ: (abi.READ_IN, self._read),
            abi.FUSE_WRITE: (abi.WRITE_IN, self._write),
            abi.FUSE_POLL: (abi.POLL_IN, self._poll),
            abi.FUSE_IOCTL: (abi.IOCTL_IN, self._ioctl),
            abi.FUSE_RELEASE: (abi.RELEASE_IN, self._release),
        }

    def receive(self, message: bytes) -> list[Action]:
        """Return what one whole message of the kernel asks for."""
        if len(message) < _BODY:
            raise ProtocolError(f"a FUSE message of {len(message)} octets")
        length, opcode, unique, tid = _unpack_header(message)
        if length != len(message):
            raise ProtocolError(f"a FUSE message of {len(message)} octets says it has {length}")
        if not self._initialised:
            if opcode != self.INIT:
                raise ProtocolError(f"FUSE message {opcode} before the first, {self.INIT}")
            self._initialised = True
            return [self._init(unique, message[_BODY:])]
        found = self._file_requests.get(opcode)
        if found is None:
            request = self._requests.get(opcode)
            if request is None:
                return [] if opcode in abi.NO_REPLY else [error_reply(unique, errno.ENOSYS)]
            return request(unique, message[_BODY:])
        layout, on_file = found
        if length < _BODY + layout.size:
            return [error_reply(unique, errno.EINVAL)]
        members = layout.unpack_from(message, _BODY)
        file = self._files.get(members[0])
        if file is None:
            return [error_reply(unique, errno.EBADF)]
        try:
            return on_file(unique, tid, file, members, message[_BODY + layout.size :])
        except OSError as error:
            return [error_reply(unique, error.errno or errno.EIO)]

    def finish(self, execute: Execute, response: bytes) -> list[bytes]:
        """Take the response to *execute*."""
        file = self._executed(execute)
        if file is not None:
            file.session.response(response)
        replies = [] if execute.queued else [reply(execute.unique, abi.WRITE_OUT.pack(execute.written, 0))]
        return replies + _wake(file)

    def fail(self, execute: Execute, code: int) -> list[bytes]:
        """Take errno *code* as the outcome of *execute*: the TPM is gone, or the command was not executed."""
        file = self._executed(execute)
        if file is not None:
            file.session.failed(code, queued=execute.queued)
        replies = [] if execute.queued else [error_reply(execute.unique, code)]
        return replies + _wake(file)

    def _executed(self, execute: Execute) -> _File | None:
        """Return the file whose command *execute* was, unless it has been closed meanwhile."""
        file = self._files.get(execute.handle)
        if file is not None:
            file.executing = None
        return file

    def _init(self, unique: int, body: bytes) -> bytes:
        raise NotImplementedError

    def _open(self, unique: int, body: bytes) -> list[Action]:
        if len(body) < abi.OPEN_IN.size:
            return [error_reply(unique, errno.EINVAL)]
        try:
            session = self._device.open()
        except OSError as error:
            return [error_reply(unique, error.errno or errno.EIO)]
        self._handle += 1
        self._files[self._handle] = _File(session, ControlFile(self._control) if self._control else None)
        flags = abi.FOPEN_DIRECT_IO | abi.FOPEN_NONSEEKABLE
        return [reply(unique, abi.OPEN_OUT.pack(self._handle, flags, 0))]

    def _write(
        self, unique: int, tid: int, file: _File, members: _Members, data: bytes
    ) -> list[Action]:
        handle, _, size, _, _, flags, _ = members
        if len(data) != size:
            raise refused(errno.EINVAL)
        if file.control is not None and (file.control.sends or file.control.receives):
            file.control.write(data)
            return [reply(unique, abi.WRITE_OUT.pack(size, 0))]
        session = file.session
        submit = session.write(data)
        queued = bool(flags & os.O_NONBLOCK)
        execute = Execute(unique, handle, tid, size, queued, submit, session.transport)
        file.executing = execute
        return [reply(unique, abi.WRITE_OUT.pack(size, 0)), execute] if queued else [execute]

    def _read(
        self, unique: int, tid: int, file: _File, members: _Members, data: bytes
    ) -> list[Action]:
        size = members[2]
        if file.control is not None and (file.control.sends or file.control.receives):
            return [reply(unique, file.control.read(size))]
        found = file.session.read(size)
        return [reply(unique, found), *(_wake(file) if found else ())]

    def _poll(
        self, unique: int, tid: int, file: _File, members: _Members, data: bytes
    ) -> list[Action]:
        _, kh, flags, _ = members
        if flags & abi.FUSE_POLL_SCHEDULE_NOTIFY:
            file.poll_kh = kh
        return [reply(unique, abi.POLL_OUT.pack(file.session.poll(), 0))]

    def _ioctl(
        self, unique: int, tid: int, file: _File, members: _Members, data: bytes
    ) -> list[Action]:
        """Have an ioctl of swtpm run; the kernel's TPM device knows none."""
        _, _, command, _, in_size, out_size = members
        if len(data) != in_size:
            raise refused(errno.EINVAL)
        control = file.control
        if control is None or not is_control(command):
            raise refused(errno.ENOTTY)

        def run() -> bytes:
            try:
                result = control.ioctl(command, data)
            except OSError as error:
                return error_reply(unique, error.errno or errno.EIO)
            return reply(unique, abi.IOCTL_OUT.pack(0, 0, 0, 0) + result[:out_size])

        return [Ioctl(run)]

    def _release(
        self, unique: int, tid: int, file: _File, members: _Members, data: bytes
    ) -> list[Action]:
        del self._files[members[0]]
        file.session.release()
        cancels = [Cancel(file.executing, gone=True)] if file.executing is not None else []
        return [reply(unique), *cancels]

    def _interrupt(self, unique: int, body: bytes) -> list[Action]:
        """An interrupt has no reply; what it interrupts is answered in its own time."""
        if len(body) < abi.INTERRUPT_IN.size:
            return []
        (interrupted,) = abi.INTERRUPT_IN.unpack_from(body)
        for file in self._files.values():
            execute = file.executing
            if execute is not None and not execute.queued and execute.unique == interrupted:
                return [Cancel(execute, gone=False)]
        return []


class CuseProtocol(FileProtocol):
    """One character device named *name*; the rest is as for `FileProtocol`.

    *numbers* are its major and minor; zeros leave them to the kernel.
    """

    INIT: ClassVar[int] = abi.CUSE_INIT

    def __init__(self, name: str, device: AnyDevice, numbers: tuple[int, int] = (0, 0),
                 control: Control | None = None) -> None:
        super().__init__(device, control)
        self._name = name
        self._numbers = numbers

    def _init(self, unique: int, body: bytes) -> bytes:
        if len(body) < abi.CUSE_INIT_IN.size:
            raise ProtocolError(f"a CUSE_INIT of {len(body)} octets")
        major, minor, _, _ = abi.CUSE_INIT_IN.unpack_from(body)
        if major != abi.FUSE_KERNEL_VERSION or minor < abi.CUSE_MIN_MINOR_VERSION:
            raise ProtocolError(f"the kernel speaks FUSE {major}.{minor}, which has no known CUSE")
        minor = min(minor, abi.FUSE_KERNEL_MINOR_VERSION)
        out = abi.CUSE_INIT_OUT.pack(major, minor, 0, 0, TPM_BUFSIZE, MAX_WRITE, *self._numbers)
        return reply(unique, out + b"DEVNAME=" + self._name.encode() + b"\0")


def _wake(file: _File | None) -> list[bytes]:
    """Return the notification that makes the kernel poll *file* again, if somebody polls it."""
    if file is None or file.poll_kh is None:
        return []
    body = abi.NOTIFY_POLL_WAKEUP_OUT.pack(file.poll_kh)
    file.poll_kh = None
    return [abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), abi.FUSE_NOTIFY_POLL, 0) + body]


def reply(unique: int, body: bytes = b"") -> bytes:
    return abi.OUT_HEADER.pack(abi.OUT_HEADER.size + len(body), 0, unique) + body


def error_reply(unique: int, code: int) -> bytes:
    return abi.OUT_HEADER.pack(abi.OUT_HEADER.size, -code, unique)

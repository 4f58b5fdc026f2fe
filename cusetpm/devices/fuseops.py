"""The FUSE operations of a directory of TPM devices, under trio.

Imported when a directory starts, never before: pyfuse3 and trio cost 170 ms.

The files claim to be regular ones of no size, because a character device cannot be opened on a FUSE
mount.  They are opened for direct I/O, without a position: offsets that the kernel counts are ignored.
A read without a response returns nothing rather than wait, because the kernel lets no write pass a read
that waits.  Short commands run in the trio thread; those that take long in a worker thread.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Mapping, Sequence
from typing import Final

import pyfuse3
import trio

from cusetpm.devices.process import is_dying
from cusetpm.devices.session import AnyDevice, Session, Submit
from cusetpm.transport import NotExecuted

log = logging.getLogger(__name__)

_CACHED_S: Final = 3600.0
"""How long the kernel may remember names and attributes; they change through the kernel only."""

_WATCH_S: Final = 0.02
"""How often the client of a long command is looked at, in seconds: pyfuse3 reports no interrupts."""


class _Node:
    """A file of the directory: one device."""

    def __init__(self, name: str, device: AnyDevice, attributes: pyfuse3.EntryAttributes) -> None:
        self.name = os.fsencode(name)
        self.attributes = attributes
        self.device = device


class _Open:
    """An open file: a session and what FUSE needs beside it."""

    __slots__ = ("cancelled", "node", "nonblocking", "poll_handle", "session", "tid")

    def __init__(self, node: _Node, session: Session, nonblocking: bool, tid: int) -> None:
        self.node = node
        self.session = session
        self.nonblocking = nonblocking
        self.tid = tid
        self.cancelled = False  # The command that executes has been asked to end.
        self.poll_handle: pyfuse3.PollHandle | None = None

    def execute(self, submit: Submit) -> bytes:
        """Return the response to a command that takes long, unless `cancel` ends it; in a worker thread."""
        return self.session.transport.execute(*submit, lambda: self.cancelled)

    def cancel(self) -> None:
        """The command that executes has been asked to end, even if its thread has not begun with it."""
        self.cancelled = True
        self.session.transport.cancel()

    def changed(self) -> None:
        """Whoever polls this file looks again."""
        handle, self.poll_handle = self.poll_handle, None
        if handle is not None:
            handle.notify()


class Operations(pyfuse3.Operations):
    """A directory with one file for each of *devices*, mode *mode*, owned by this process."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, devices: Mapping[str, AnyDevice], mode: int) -> None:
        super().__init__()
        search = (mode & 0o444) >> 2  # Who may read or write a file may search the directory.
        self._root = _attributes(pyfuse3.ROOT_INODE, stat.S_IFDIR | mode & 0o444 | 0o100 | search)
        self._nodes: dict[int, _Node] = {}
        self._open: dict[int, _Open] = {}
        self._next_handle = 1
        self._nursery: trio.Nursery | None = None
        for inode, (name, device) in enumerate(devices.items(), pyfuse3.ROOT_INODE + 1):
            attributes = _attributes(pyfuse3.InodeT(inode), stat.S_IFREG | mode)
            self._nodes[inode] = _Node(name, device, attributes)
        self._by_name = {node.name: node for node in self._nodes.values()}

    async def serve(self) -> None:
        """Serve the mount until it is gone or `pyfuse3.terminate` was called, and commands have ended."""
        async with trio.open_nursery() as self._nursery:
            await pyfuse3.main()

    def cancel(self) -> None:
        """Commands in progress are asked to end."""
        for opened in self._open.values():
            if opened.session.executing:
                opened.cancel()

    async def _run_long(self, opened: _Open, submit: Submit) -> bytes:
        """Execute in a worker thread; a client that is being killed has its command cancelled."""
        failed: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, opened)
            try:
                response = await trio.to_thread.run_sync(opened.execute, submit)
            except Exception as error:
                failed = error  # Raised here, it would come out of the nursery in a group.
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return response

    async def _watch(self, opened: _Open) -> None:
        while True:
            await trio.sleep(_WATCH_S)
            if is_dying(opened.tid):
                opened.cancel()
                return

    async def _run_queued(self, opened: _Open, submit: Submit) -> None:
        try:
            response = await trio.to_thread.run_sync(opened.execute, submit)
        except Exception as error:
            opened.session.failed(self._why(opened, error), queued=True)
        else:
            opened.session.response(response)
        opened.changed()

    def _why(self, opened: _Open, error: Exception) -> int:
        """Return the errno value that says why a command has no response; a defect is logged."""
        if isinstance(error, NotExecuted):
            return error.code
        log.error("%s: a command failed", os.fsdecode(opened.node.name), exc_info=error)
        return errno.EPIPE

    # -- open files

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        node = self._nodes.get(inode)
        if node is None:
            raise pyfuse3.FUSEError(errno.EISDIR)
        try:
            session = node.device.open()
        except OSError as error:
            raise _fuse_error(error) from None
        handle = self._next_handle
        self._next_handle += 1
        self._open[handle] = _Open(node, session, bool(flags & os.O_NONBLOCK), ctx.pid)
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(handle), direct_io=True, keep_cache=False, nonseekable=True
        )

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        opened = self._open[fh]
        session = opened.session
        try:
            submit = session.write(buf)
        except OSError as error:
            raise _fuse_error(error) from None
        opened.cancelled = False
        try:
            if not session.transport.takes_long(submit.command):
                session.response(session.transport.execute(*submit))
            elif opened.nonblocking:
                assert self._nursery is not None
                self._nursery.start_soon(self._run_queued, opened, submit)
                return len(buf)
            else:
                session.response(await self._run_long(opened, submit))
        except Exception as error:
            code = self._why(opened, error)
            session.failed(code, queued=opened.nonblocking)
            if not opened.nonblocking:
                raise pyfuse3.FUSEError(code) from None
        finally:
            opened.changed()
        return len(buf)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        opened = self._open[fh]
        try:
            data = opened.session.read(size)
        except OSError as error:
            raise _fuse_error(error) from None
        if data:
            opened.changed()
        return data

    async def poll(
        self,
        inode: pyfuse3.InodeT,
        fh: pyfuse3.FileHandleT,
        poll_handle: pyfuse3.PollHandle | None,
        ctx: pyfuse3.RequestContext,
    ) -> int:
        opened = self._open[fh]
        if poll_handle is not None:
            opened.poll_handle = poll_handle
        return opened.session.poll()

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        opened = self._open.pop(fh)
        opened.poll_handle = None
        if opened.session.executing:
            opened.cancel()
        opened.session.release()

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        raise pyfuse3.FUSEError(errno.EINVAL)  # As the kernel's device, which has no fsync.

    # -- names and attributes

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        node = self._by_name.get(name)
        if parent_inode != pyfuse3.ROOT_INODE or node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return node.attributes

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        node = self._nodes.get(inode)
        return self._root if node is None else node.attributes

    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """Mode and owner change; a truncation, which O_TRUNC asks for, is accepted and does nothing."""
        attributes = await self.getattr(inode, ctx)
        if fields.update_mode:
            kind = stat.S_IFMT(attributes.st_mode)
            attributes.st_mode = pyfuse3.ModeT(kind | stat.S_IMODE(attr.st_mode))
        if fields.update_uid:
            attributes.st_uid = attr.st_uid
        if fields.update_gid:
            attributes.st_gid = attr.st_gid
        return attributes

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        return pyfuse3.FileHandleT(inode)

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        nodes: Sequence[_Node] = list(self._nodes.values())
        for number, node in enumerate(nodes[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(node.name), node.attributes, number):
                return

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_files = len(self._nodes) + 1
        data.f_namemax = 255
        return data


def _attributes(inode: pyfuse3.InodeT, mode: int) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = inode
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.st_nlink = 2 if stat.S_ISDIR(mode) else 1
    entry.st_uid, entry.st_gid = os.geteuid(), os.getegid()
    entry.st_size = 0
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = time.time_ns()
    entry.entry_timeout = entry.attr_timeout = _CACHED_S
    return entry


def _fuse_error(error: OSError) -> pyfuse3.FUSEError:
    return pyfuse3.FUSEError(error.errno or errno.EIO)

"""The FUSE operations of a directory of TPM devices, under trio: its names and attributes.

Imported when a directory starts, never before: pyfuse3 and trio cost 170 ms.

Device files claim to be regular ones of no size, because a character device cannot be opened on a FUSE
mount.  What open files do is in `fuseopen`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NoReturn

import pyfuse3
import trio

from cusetpm.devices.files import Directory, Entry, File, Link
from cusetpm.devices.fuseopen import Open, OpenDevice, OpenFile, fuse_error, in_thread


def _refusal(code: int) -> Callable[..., Awaitable[NoReturn]]:
    async def refuse(self: object, *arguments: object) -> NoReturn:
        raise pyfuse3.FUSEError(code)

    return refuse


_CACHED_S: Final = 3600.0
"""How long the kernel may remember names and attributes; they change through the kernel only."""


class _Node:
    """What has an inode: *entry*, called *name* in *parent*; `children` are those of a directory, by name."""

    def __init__(self, inode: int, name: str, entry: Entry, mode: int, parent: _Node | None) -> None:
        self.inode = pyfuse3.InodeT(inode)
        self.name = os.fsencode(name)
        self.entry = entry
        self.children: dict[bytes, _Node] = {}
        changing = entry.changing if isinstance(entry, Directory) else ()
        self.changing = frozenset(map(os.fsencode, changing))
        self.attributes = _attributes(self.inode, mode, entry.size if isinstance(entry, File) else 0)
        if parent is not None and self.name in parent.changing:
            # It may be gone, or be there again, the next time.
            self.attributes.entry_timeout = 0

    async def present(self) -> list[_Node]:
        """Return those of a directory's children that are there now."""
        assert isinstance(self.entry, Directory)
        if not self.changing:
            return list(self.children.values())
        now = {*map(os.fsencode, await in_thread(os.fsdecode(self.name), self.entry.now))}
        return [child for name, child in self.children.items() if name in now or name not in self.changing]


class Operations(pyfuse3.Operations):
    """A directory with *entries*, of which the devices have mode *mode*, owned by this process."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, entries: Mapping[str, Entry], mode: int) -> None:
        super().__init__()
        self._mode = mode
        self._nodes: dict[int, _Node] = {}
        self._add("", Directory(entries), None)
        self._open: dict[int, Open] = {}
        self._next_handle = 1
        self._nursery: trio.Nursery | None = None

    def _add(self, name: str, entry: Entry, parent: _Node | None) -> _Node:
        inode = pyfuse3.ROOT_INODE + len(self._nodes)
        node = _Node(inode, name, entry, _mode(entry, self._mode, parent), parent)
        self._nodes[node.inode] = node
        if isinstance(entry, Directory):
            for child, of_child in entry.entries.items():
                added = self._add(child, of_child, node)
                node.children[added.name] = added
        return node

    async def serve(self) -> None:
        """Serve the mount until it is gone or `pyfuse3.terminate` was called, and commands have ended."""
        async with trio.open_nursery() as self._nursery:
            await pyfuse3.main()

    def cancel(self) -> None:
        """Commands in progress are asked to end."""
        for opened in self._open.values():
            opened.cancel()

    # -- open files

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        node = self._nodes[inode]
        name = os.fsdecode(node.name)
        device = False
        if isinstance(node.entry, Directory):
            raise pyfuse3.FUSEError(errno.EISDIR)
        if isinstance(node.entry, Link):
            raise pyfuse3.FUSEError(errno.ELOOP)
        opened: Open
        if isinstance(node.entry, File):
            opened = OpenFile(name, node.entry, flags)
        else:
            assert self._nursery is not None
            device = True
            try:
                opened = OpenDevice(name, node.entry.open(), flags, ctx.pid, self._nursery)
            except OSError as error:
                raise fuse_error(error) from None
        handle = self._next_handle
        self._next_handle += 1
        self._open[handle] = opened
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(handle), direct_io=True, keep_cache=False, nonseekable=device
        )

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        return await self._open[fh].write(buf)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return await self._open[fh].read(off, size)

    async def poll(
        self,
        inode: pyfuse3.InodeT,
        fh: pyfuse3.FileHandleT,
        poll_handle: pyfuse3.PollHandle | None,
        ctx: pyfuse3.RequestContext,
    ) -> int:
        return self._open[fh].poll(poll_handle)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        self._open.pop(fh).release()

    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        raise pyfuse3.FUSEError(errno.EINVAL)  # As the kernel's device, which has no fsync.

    # -- names and attributes

    # As in sysfs, nobody makes or removes anything, root included.
    create = mknod = _refusal(errno.EACCES)  # type: ignore[assignment]
    link = mkdir = rename = rmdir = symlink = unlink = _refusal(errno.EPERM)  # type: ignore[assignment]

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._nodes[parent_inode]
        node = parent.children.get(name)
        if node is None or (name in parent.changing and node not in await parent.present()):
            raise pyfuse3.FUSEError(errno.ENOENT)
        return node.attributes

    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._nodes[inode].attributes

    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileNameT:
        entry = self._nodes[inode].entry
        if not isinstance(entry, Link):
            raise pyfuse3.FUSEError(errno.EINVAL)
        return pyfuse3.FileNameT(os.fsencode(entry.target))

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
        present = sorted(await self._nodes[fh].present(), key=lambda node: node.inode)
        for node in present:
            # What comes and goes between two calls moves nothing: a place in the listing is an inode.
            if node.inode > start_id and not pyfuse3.readdir_reply(
                    token, pyfuse3.FileNameT(node.name), node.attributes, node.inode):
                return

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_files = len(self._nodes)
        data.f_namemax = 255
        return data


def _mode(entry: Entry, mode: int, parent: _Node | None) -> int:
    if isinstance(entry, Directory):
        # Who may read or write a device may search the directory.
        return stat.S_IFDIR | (0o555 if parent is not None else mode & 0o444 | 0o100 | (mode & 0o444) >> 2)
    if isinstance(entry, Link):
        return stat.S_IFLNK | 0o777
    if isinstance(entry, File):
        readable, writable = entry.read is not None, entry.write is not None
        return stat.S_IFREG | (0o444 if readable else 0) | (0o200 if writable else 0)
    return stat.S_IFREG | mode


def _attributes(inode: pyfuse3.InodeT, mode: int, size: int) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = inode
    entry.st_mode = pyfuse3.ModeT(mode)
    entry.st_nlink = 1  # Of a directory, this says that nobody has counted what is in it.
    entry.st_uid, entry.st_gid = os.geteuid(), os.getegid()
    entry.st_size = size
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = time.time_ns()
    entry.entry_timeout = entry.attr_timeout = _CACHED_S
    return entry

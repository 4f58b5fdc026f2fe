"""The FUSE operations of a directory of what is shown beside a TPM, under trio: its names and attributes.

Imported when a directory starts, never before: pyfuse3 and trio cost 170 ms.
 What open
files do is in `fuseopen`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NoReturn

import pyfuse3

from cusetpm.devices.files import Directory, Entry, File, Link
from cusetpm.devices.fuseopen import OpenFile, in_thread


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
    """A directory with *entries*, owned by this process."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        super().__init__()
        self._nodes: dict[int, _Node] = {}
        self._add("", Directory(entries), None)
        self._open: dict[int, OpenFile] = {}
        self._next_handle = 1

    def _add(self, name: str, entry: Entry, parent: _Node | None) -> _Node:
        inode = pyfuse3.ROOT_INODE + len(self._nodes)
        node = _Node(inode, name, entry, _mode(entry), parent)
        self._nodes[node.inode] = node
        if isinstance(entry, Directory):
            for child, of_child in entry.entries.items():
                added = self._add(child, of_child, node)
                node.children[added.name] = added
        return node

    # -- open files

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        node = self._nodes[inode]
        if isinstance(node.entry, Directory):
            raise pyfuse3.FUSEError(errno.EISDIR)
        if isinstance(node.entry, Link):
            raise pyfuse3.FUSEError(errno.ELOOP)
        opened = OpenFile(os.fsdecode(node.name), node.entry, flags)
        handle = self._next_handle
        self._next_handle += 1
        self._open[handle] = opened
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), direct_io=True, keep_cache=False)

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        return await self._open[fh].write(buf)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        return await self._open[fh].read(off, size)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        del self._open[fh]

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


def _mode(entry: Entry) -> int:
    if isinstance(entry, Directory):
        return stat.S_IFDIR | 0o555
    if isinstance(entry, Link):
        return stat.S_IFLNK | 0o777
    return stat.S_IFREG | (0 if entry.read is None else 0o444) | (0 if entry.write is None else 0o200)


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

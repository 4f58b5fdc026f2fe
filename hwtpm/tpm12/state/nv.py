"""NV storage: the defined areas, and the DIR (Part 1, 28; Part 2, 19)."""

from __future__ import annotations

from hashlib import sha1
from typing import Annotated, ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import NV_OCTETS
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_BOOL, TPM_DIRVALUE, TPM_SECRET, UINT8, UINT32, ZERO_DIGEST
from hwtpm.tpm12.types.codes import TPM_BADINDEX, TPM_NOSPACE
from hwtpm.tpm12.types.constants import TPM_NV_INDEX_D_BIT, TPM_NV_PER_OWNERREAD, TPM_NV_PER_OWNERWRITE
from hwtpm.tpm12.types.nv import TPM_NV_DATA_PUBLIC
from hwtpm.wire import ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
_OVERHEAD: Final = 128  # octets that an area takes beside its data


class Area(Wire):
    """A defined area: its description, its secret and its data (TPM_NV_DATA_SENSITIVE, Part 2, 19.4)."""

    public: TPM_NV_DATA_PUBLIC
    auth_value: TPM_SECRET
    data: Annotated[bytes, Sized(0xFFFFFFFF, prefix="I")]

    @property
    def attributes(self) -> int:
        """The TPM_NV_PER bits."""
        return self.public.permission.attributes

    @property
    def digest(self) -> bytes:
        """What tells the area from others in an OSAP session."""
        return sha1(self.public.nv_index.to_bytes(4, "big") + self.auth_value).digest()


class _Permanent(Wire):
    version: UINT8
    auth_dir: TPM_DIRVALUE
    areas: Annotated[list[Area], ListOf(0xFFFF)]


class _Locks(Wire):
    nv_index: UINT32
    b_read_stclear: TPM_BOOL
    b_write_stclear: TPM_BOOL


class _Volatile(Wire):
    version: UINT8
    locks: Annotated[list[_Locks], ListOf(0xFFFF)]


class NvStorage(Owner):
    """`areas` by index; `auth_dir` is the one DIR register."""

    TAG: ClassVar[bytes] = b"nv  "

    def __init__(self) -> None:
        super().__init__()
        self.areas: dict[int, Area] = {}
        self.auth_dir = ZERO_DIGEST

    def get(self, nv_index: int) -> Area:
        """Return the area; TPM_BADINDEX if it is not defined."""
        area = self.areas.get(nv_index)
        if area is None:
            raise TpmError(TPM_BADINDEX)
        return area

    @property
    def available(self) -> int:
        """The octets that one more area could have."""
        used = sum(len(area.data) + _OVERHEAD for area in self.areas.values())
        return max(NV_OCTETS - used - _OVERHEAD, 0)

    def require_space(self, size: int, replaced: Area | None) -> None:
        """Raise TPM_NOSPACE unless *size* octets can be defined once *replaced* is gone."""
        freed = len(replaced.data) + _OVERHEAD if replaced is not None else 0
        if size > self.available + freed:
            raise TpmError(TPM_NOSPACE)

    def define(self, public: TPM_NV_DATA_PUBLIC, auth_value: bytes) -> None:
        """The area is defined, full of ones (Part 3, 20.1)."""
        self.areas[public.nv_index] = Area(public, auth_value, b"\xff" * public.data_size)
        self.touch()

    def undefine(self, nv_index: int) -> None:
        """The area is not defined any more."""
        del self.areas[nv_index]
        self.touch()

    def write(self, area: Area, offset: int, data: bytes) -> bool:
        """The area holds *data* at *offset*; tell whether that changed it."""
        found = area.data[:offset] + data + area.data[offset + len(data) :]
        changed = found != area.data
        if changed:
            area.data = found
            self.touch()
        return changed

    def lock_definition(self, area: Area) -> bool:
        """bWriteDefine of the area is TRUE; tell whether that changed it."""
        changed = not area.public.b_write_define
        if changed:
            area.public.b_write_define = 1
            self.touch()
        return changed

    def write_dir(self, value: bytes) -> bool:
        """The DIR has that value; tell whether that changed it."""
        changed = value != self.auth_dir
        if changed:
            self.auth_dir = value
            self.touch()
        return changed

    def owner_clear(self, *, revoke: bool = False) -> None:
        """Areas that only the owner reads or writes are gone; with *revoke* the manufacturer's, too."""
        for nv_index, area in list(self.areas.items()):
            owned = area.attributes & (TPM_NV_PER_OWNERREAD | TPM_NV_PER_OWNERWRITE)
            if owned and (revoke or not nv_index & TPM_NV_INDEX_D_BIT):
                self.undefine(nv_index)

    def startup(self, start: Start) -> None:
        """Volatile locks are open, unless a saved state was resumed."""
        if start is not Start.STATE:
            for area in self.areas.values():
                area.public.b_read_stclear = area.public.b_write_stclear = 0

    def save(self) -> bytes:
        """Return version, DIR and areas; volatile locks are not in it."""
        areas = []
        for area in self.areas.values():
            p = area.public
            public = TPM_NV_DATA_PUBLIC(p.nv_index, p.pcr_info_read, p.pcr_info_write, p.permission, 0, 0,
                                        p.b_write_define, p.data_size)
            areas.append(Area(public, area.auth_value, area.data))
        return encode(_Permanent(_FORMAT, self.auth_dir, areas))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; the volatile locks of areas that stay defined stay."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"NV storage of version {found.version}")
        locks = self.save_volatile()
        self.auth_dir = found.auth_dir
        self.areas = {area.public.nv_index: area for area in found.areas}
        self.restore_volatile(locks)

    def save_volatile(self) -> bytes:
        """Return version and the volatile locks that are closed."""
        return encode(_Volatile(_FORMAT, [
            _Locks(nv_index, area.public.b_read_stclear, area.public.b_write_stclear)
            for nv_index, area in self.areas.items()
            if area.public.b_read_stclear or area.public.b_write_stclear
        ]))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"NV locks of version {found.version}")
        for locks in found.locks:
            area = self.areas.get(locks.nv_index)
            if area is not None:
                area.public.b_read_stclear, area.public.b_write_stclear = (
                    locks.b_read_stclear, locks.b_write_stclear)

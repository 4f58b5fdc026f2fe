"""NV Indices: their public areas, data, locks and counters (Part 1, "NV Memory", 34.2).

Most indices are permanent state as a whole.  A *hybrid* Index (TPMA_NV_ORDERLY) lives in RAM: what it holds
is volatile state, which Shutdown(STATE) keeps.  Only of a hybrid counter a copy is permanent, made when the
counter is first written, whenever its low bits roll over, and at any Shutdown; `recover` takes up from it
after a loss of power.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Annotated, ClassVar, Final

from hwtpm.crypto import hashes
from hwtpm.errors import TpmError
from hwtpm.tpm2.profile import (
    MAX_DIGEST_SIZE,
    MAX_NV_INDEX_SIZE,
    MAX_ORDERLY_COUNT,
    NV_INDEX_SPACE,
    RAM_INDEX_SPACE,
)
from hwtpm.tpm2.state.owner import Owner, Start
from hwtpm.tpm2.types.attributes import (
    TPM_NT_COUNTER,
    TPM_NT_PIN_FAIL,
    TPM_NT_PIN_PASS,
    TPMA_NV_CLEAR_STCLEAR,
    TPMA_NV_GLOBALLOCK,
    TPMA_NV_ORDERLY,
    TPMA_NV_PLATFORMCREATE,
    TPMA_NV_READLOCKED,
    TPMA_NV_TPM_NT,
    TPMA_NV_TPM_NT_SHIFT,
    TPMA_NV_WRITEDEFINE,
    TPMA_NV_WRITELOCKED,
    TPMA_NV_WRITTEN,
)
from hwtpm.tpm2.types.base import UINT8, UINT32
from hwtpm.tpm2.types.constants import TPM_RC_NV_DEFINED, TPM_RC_NV_SPACE
from hwtpm.tpm2.types.nv import TPMS_NV_PUBLIC
from hwtpm.wire import SECRET, ListOf, Sized, Wire, decode, encode

_FORMAT: Final = 1
_CHANGING: Final = TPMA_NV_WRITTEN | TPMA_NV_WRITELOCKED | TPMA_NV_READLOCKED
_HEAD: Final = Struct(">BQ")  # version and the highest count of a deleted counter
_SIZE: Final = Struct(">I")
_U64: Final = Struct(">Q")
_RAM_OVERHEAD: Final = 8  # handle and attributes of a hybrid Index, beside its data
_COUNTER_RECORD: Final = 30  # of a counter without policy and authValue

_Data = Annotated[bytes, Sized(MAX_NV_INDEX_SIZE), SECRET]


class _Record(Wire):
    """One Index in permanent state; the data of a hybrid Index only if it is a counter."""

    public: TPMS_NV_PUBLIC
    auth_value: Annotated[bytes, Sized(MAX_DIGEST_SIZE), SECRET]
    data: _Data


class _Hybrid(Wire):
    """The RAM part of a hybrid Index."""

    handle: UINT32
    attributes: UINT32
    data: _Data


class _Volatile(Wire):
    version: UINT8
    hybrids: Annotated[list[_Hybrid], ListOf(RAM_INDEX_SPACE)]


class NvIndex:
    """A defined Index.  `data` is as long as the public area says; zeros until the Index is written."""

    __slots__ = ("_name", "auth_value", "data", "is_pin", "kind", "public", "saved")

    def __init__(self, public: TPMS_NV_PUBLIC, auth_value: bytes, data: bytes = b"") -> None:
        self.public = public
        self.auth_value = auth_value  # without trailing zeros
        self.data = data or bytes(public.data_size)
        self.saved = self.data  # of a hybrid counter: the count in permanent state
        self.kind = (public.attributes & TPMA_NV_TPM_NT) >> TPMA_NV_TPM_NT_SHIFT  # TPM_NT; it never changes
        self.is_pin = self.kind in (TPM_NT_PIN_FAIL, TPM_NT_PIN_PASS)  # it counts the uses of its authValue
        self._name = b""

    def __repr__(self) -> str:
        return f"<NV Index 0x{self.public.nv_index:08x}>"

    @property
    def name(self) -> bytes:
        """The Name: nameAlg and the digest of the public area (Part 1, 14)."""
        if not self._name:
            alg = self.public.name_alg
            self._name = alg.to_bytes(2, "big") + hashes.digest(alg, encode(self.public))
        return self._name

    @property
    def written(self) -> bool:
        """It has been written."""
        return bool(self.public.attributes & TPMA_NV_WRITTEN)

    @property
    def hybrid(self) -> bool:
        """It lives in RAM."""
        return bool(self.public.attributes & TPMA_NV_ORDERLY)

    @property
    def count(self) -> int:
        """The data of a counter or bit field as a number."""
        return int.from_bytes(self.data, "big")

    def auth_usable(self, wanted: int) -> bool:
        """Tell whether the authValue may be used where TPMA_NV_AUTHREAD or TPMA_NV_AUTHWRITE is *wanted*.

        That of a PIN Index may be used for reading while pinCount is less than pinLimit (Part 1, 34.2.6.6).
        """
        if self.is_pin and not wanted & 0xFF:
            return self.written and self.data[:4] < self.data[4:]
        return bool(self.public.attributes & wanted)

    def set_attributes(self, attributes: int) -> None:
        """Set the attributes; the Name changes with them."""
        if attributes != self.public.attributes:
            self.public.attributes = attributes
            self._name = b""

    def record(self) -> bytes:
        """Return the permanent state of this Index."""
        public, data = self.public, self.data
        if self.hybrid:
            if self.kind == TPM_NT_COUNTER:
                data = self.saved
            else:
                data = b""
                public = TPMS_NV_PUBLIC(public.nv_index, public.name_alg, public.attributes & ~_CHANGING,
                                        public.auth_policy, public.data_size)
        return encode(_Record(public, self.auth_value, data))


class NvMemory(Owner):
    """The defined indices by handle.

    Each Index has its encoded record, made again only after it has changed, so that saving costs the same
    for one small change whatever else is defined.
    """

    TAG: ClassVar[bytes] = b"nvix"

    def __init__(self) -> None:
        super().__init__()
        self._indices: dict[int, NvIndex] = {}
        self._records: dict[int, bytes] = {}  # each with its size before it
        self._stale: set[int] = set()  # handles whose record is out of date
        self._highest = 0  # count of any counter that was deleted
        self._used = 0  # octets of all records

    def get(self, handle: int) -> NvIndex:
        """Return the Index; raises KeyError when it is not defined."""
        return self._indices[handle]

    def handles(self) -> list[int]:
        """Return the handles of all indices in ascending order."""
        return sorted(self._indices)

    @property
    def counters(self) -> int:
        """How many counters are defined."""
        return sum(1 for index in self._indices.values() if index.kind == TPM_NT_COUNTER)

    @property
    def counters_available(self) -> int:
        """How many counters there is room for."""
        return (NV_INDEX_SPACE - self._used) // _COUNTER_RECORD

    def define(self, public: TPMS_NV_PUBLIC, auth_value: bytes) -> None:
        """The Index exists and is not written.

        Raises TPM_RC_NV_DEFINED when it exists already, TPM_RC_NV_SPACE when there is no room.
        """
        handle = public.nv_index
        if handle in self._indices:
            raise TpmError(TPM_RC_NV_DEFINED)
        index = NvIndex(public, auth_value.rstrip(b"\0"))
        record = index.record()
        if self._used + _SIZE.size + len(record) > NV_INDEX_SPACE:
            raise TpmError(TPM_RC_NV_SPACE)
        if index.hybrid:
            hybrids = [i for i in self._indices.values() if i.hybrid]
            if sum(_RAM_OVERHEAD + i.public.data_size for i in (*hybrids, index)) > RAM_INDEX_SPACE:
                raise TpmError(TPM_RC_NV_SPACE)
        self._indices[handle] = index
        self._keep(handle, record)
        self.touch()

    def undefine(self, handle: int) -> None:
        """The Index is gone; of a counter, its count stays a lower bound for all counters to come."""
        index = self._indices.pop(handle)
        if index.kind == TPM_NT_COUNTER and index.written:
            self._highest = max(self._highest, index.count)
        self._used -= len(self._records.pop(handle))
        self._stale.discard(handle)
        self.touch()

    def undefine_owned(self) -> None:
        """Every Index that Owner Authorization defined is gone (TPM2_Clear)."""
        for handle, index in list(self._indices.items()):
            if not index.public.attributes & TPMA_NV_PLATFORMCREATE:
                self.undefine(handle)

    def write(self, index: NvIndex, data: bytes, offset: int = 0) -> None:
        """*data* are in the Index from *offset* on, and it is written.

        What a first write leaves out is zero.  Writing what is there already changes nothing.
        """
        old = index.data
        new = old[:offset] + data + old[offset + len(data) :]
        if index.written and new == old:
            return
        first = not index.written
        index.data = new
        index.set_attributes(index.public.attributes | TPMA_NV_WRITTEN)
        if not index.hybrid:
            self._changed(index)
        elif index.kind == TPM_NT_COUNTER and (first or not index.count & MAX_ORDERLY_COUNT):
            index.saved = new
            self._changed(index)

    def increment(self, index: NvIndex) -> None:
        """A counter is one higher; the first count is above any that a counter has ever had."""
        if index.written:
            count = index.count
        else:
            live = (i.count for i in self._indices.values() if i.kind == TPM_NT_COUNTER and i.written)
            count = max(self._highest, *live, 0)
        self.write(index, _U64.pack((count + 1) & 0xFFFFFFFF_FFFFFFFF))

    def pin_used(self, index: NvIndex, success: bool) -> None:
        """Count a use of the authValue of a written PIN Index (Part 1, 34.2.6.6)."""
        count = int.from_bytes(index.data[:4], "big")
        if index.kind == TPM_NT_PIN_FAIL:
            count = 0 if success else count + 1
        elif success:
            count += 1
        self.write(index, count.to_bytes(4, "big"))

    def lock(self, index: NvIndex, attribute: int) -> None:
        """TPMA_NV_READLOCKED or TPMA_NV_WRITELOCKED is SET."""
        self._set_attributes(index, index.public.attributes | attribute)

    def lock_all(self) -> None:
        """Every Index with TPMA_NV_GLOBALLOCK is locked for writing."""
        for index in self._indices.values():
            if index.public.attributes & TPMA_NV_GLOBALLOCK:
                self.lock(index, TPMA_NV_WRITELOCKED)

    def set_auth(self, index: NvIndex, auth_value: bytes) -> None:
        """The Index has the authValue."""
        index.auth_value = auth_value.rstrip(b"\0")
        self._changed(index)

    def _set_attributes(self, index: NvIndex, attributes: int) -> None:
        if attributes != index.public.attributes:
            index.set_attributes(attributes)
            # Of a hybrid Index that is no counter, the record has none of the attributes that change.
            if not index.hybrid or index.kind == TPM_NT_COUNTER:
                self._changed(index)

    def _changed(self, index: NvIndex) -> None:
        self._stale.add(index.public.nv_index)
        self.touch()

    def _keep(self, handle: int, record: bytes) -> None:
        """Take an encoded record into the permanent state."""
        self._used += _SIZE.size + len(record) - len(self._records.get(handle, b""))
        self._records[handle] = _SIZE.pack(len(record)) + record

    def shutdown(self) -> None:
        """Have the counts of hybrid counters in permanent state, as after any Shutdown (Part 1, 34.2.4.3)."""
        for index in self._indices.values():
            if index.hybrid and index.kind == TPM_NT_COUNTER and index.saved != index.data:
                index.saved = index.data
                self._changed(index)

    def recover(self) -> None:
        """After a loss of power that was not orderly, hybrid counters are as high as they can have been."""
        for index in self._indices.values():
            if index.hybrid and index.kind == TPM_NT_COUNTER and index.written:
                index.data = _U64.pack(int.from_bytes(index.saved, "big") | MAX_ORDERLY_COUNT)

    def startup(self, start: Start) -> None:
        """Locks and WRITTEN are as after this Startup (Part 1, 34.2.4 to 34.2.6); a TPM Resume keeps them."""
        if start is Start.RESUME:
            return
        for index in self._indices.values():
            attributes = index.public.attributes & ~TPMA_NV_READLOCKED
            if index.kind != TPM_NT_COUNTER and (
                attributes & TPMA_NV_CLEAR_STCLEAR or (index.hybrid and start is Start.RESET)
            ):
                attributes &= ~TPMA_NV_WRITTEN
                index.data = bytes(index.public.data_size)
            if not (attributes & TPMA_NV_WRITTEN and attributes & TPMA_NV_WRITEDEFINE):
                attributes &= ~TPMA_NV_WRITELOCKED
            self._set_attributes(index, attributes)

    def save(self) -> bytes:
        """Return version, the highest count, then the records: UINT32 size and a _Record each."""
        for handle in self._stale:
            self._keep(handle, self._indices[handle].record())
        self._stale.clear()
        return b"".join((_HEAD.pack(_FORMAT, self._highest), *self._records.values()))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave; the RAM part of a hybrid Index that stays defined is kept."""
        indices: dict[int, NvIndex] = {}
        records: dict[int, bytes] = {}
        try:
            version, highest = _HEAD.unpack_from(state)
            if version != _FORMAT:
                raise ValueError(f"NV memory of version {version}")
            off = _HEAD.size
            while off < len(state):
                end = off + _SIZE.size + _SIZE.unpack_from(state, off)[0]
                found = decode(_Record, state[off + _SIZE.size : end])
                handle = found.public.nv_index
                if handle in indices:
                    raise ValueError(f"two NV Indices at handle 0x{handle:08x}")
                indices[handle] = self._restored(found)
                records[handle] = state[off:end]
                off = end
        except StructError:
            raise ValueError("NV memory that is cut short") from None
        self._indices, self._records, self._highest = indices, records, highest
        self._used = sum(map(len, records.values()))
        self._stale.clear()

    def _restored(self, found: _Record) -> NvIndex:
        index = NvIndex(found.public, found.auth_value, found.data)
        if len(index.data) != found.public.data_size:
            raise ValueError(f"the data of NV Index 0x{found.public.nv_index:08x}")
        live = self._indices.get(found.public.nv_index)
        if live is None or not index.hybrid or not _same_definition(live.public, index.public):
            return index
        if index.kind == TPM_NT_COUNTER and not index.written:
            return index  # Its first count was to be permanent.
        index.data = live.data
        index.set_attributes(live.public.attributes)
        return index

    def save_volatile(self) -> bytes:
        """Return the RAM parts of the hybrid indices."""
        return encode(_Volatile(_FORMAT, [
            _Hybrid(handle, index.public.attributes, index.data)
            for handle, index in self._indices.items() if index.hybrid
        ]))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave; raises ValueError when it is not of the defined indices."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"NV memory of version {found.version}")
        for hybrid in found.hybrids:
            index = self._indices.get(hybrid.handle)
            if (index is None or not index.hybrid or len(hybrid.data) != index.public.data_size
                    or (hybrid.attributes ^ index.public.attributes) & ~_CHANGING):
                raise ValueError(f"the RAM part of NV Index 0x{hybrid.handle:08x}")
            index.data = hybrid.data
            index.set_attributes(hybrid.attributes)


def _same_definition(one: TPMS_NV_PUBLIC, other: TPMS_NV_PUBLIC) -> bool:
    """Tell whether two public areas are of the same Index, whatever its state."""
    return (one.name_alg == other.name_alg and one.attributes | _CHANGING == other.attributes | _CHANGING
            and one.auth_policy == other.auth_policy and one.data_size == other.data_size)

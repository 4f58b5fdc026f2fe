"""Families and delegations that the TPM keeps (Part 1, 19; Part 2, 20)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from hwtpm.errors import TpmError
from hwtpm.tpm12.profile import DELEGATE_ROWS, FAMILY_ROWS
from hwtpm.tpm12.state.owner import Owner, Start
from hwtpm.tpm12.types.base import TPM_SECRET, UINT8, UINT32
from hwtpm.tpm12.types.codes import TPM_BADINDEX, TPM_DISABLED_CMD, TPM_FAMILYCOUNT, TPM_RESOURCES
from hwtpm.tpm12.types.constants import TPM_FAMFLAG_ENABLED, TPM_KH_OWNER
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_FAMILY_TABLE_ENTRY
from hwtpm.wire import ListOf, Wire, decode, encode

_FORMAT: Final = 1


class Row(Wire):
    """A row of the delegate table (TPM_DELEGATE_TABLE_ROW, Part 2, 20.9), with its number."""

    index: UINT32
    pub: TPM_DELEGATE_PUBLIC
    auth_value: TPM_SECRET


class _Permanent(Wire):
    version: UINT8
    last_family_id: UINT32
    families: Annotated[list[TPM_FAMILY_TABLE_ENTRY], ListOf(FAMILY_ROWS)]
    rows: Annotated[list[Row], ListOf(DELEGATE_ROWS)]


class _Volatile(Wire):
    version: UINT8
    owner_reference: UINT32


class Delegations(Owner):
    """`families` by familyID and `rows` by number; who changes one calls `touch`.

    `owner_reference` is what OIAP and OSAP sessions take for the owner: TPM_KH_OWNER, or a row's number.
    """

    TAG: ClassVar[bytes] = b"delg"

    def __init__(self) -> None:
        super().__init__()
        self._last_family_id = 0
        self.families: dict[int, TPM_FAMILY_TABLE_ENTRY] = {}
        self.rows: dict[int, Row] = {}
        self.owner_reference: int = TPM_KH_OWNER

    def family(self, family_id: int) -> TPM_FAMILY_TABLE_ENTRY:
        """Return the family; TPM_BADINDEX if there is none."""
        found = self.families.get(family_id)
        if found is None:
            raise TpmError(TPM_BADINDEX)
        return found

    def enabled_family(self, family_id: int) -> TPM_FAMILY_TABLE_ENTRY:
        """Return the family; TPM_BADINDEX if there is none, TPM_DISABLED_CMD if it is not enabled."""
        found = self.family(family_id)
        if not found.flags & TPM_FAMFLAG_ENABLED:
            raise TpmError(TPM_DISABLED_CMD)
        return found

    def require_current(self, pub: TPM_DELEGATE_PUBLIC) -> None:
        """The family of the delegation is enabled, and has verified it last; else also TPM_FAMILYCOUNT."""
        if self.enabled_family(pub.family_id).verification_count != pub.verification_count:
            raise TpmError(TPM_FAMILYCOUNT)

    def create_family(self, label: int) -> TPM_FAMILY_TABLE_ENTRY:
        """Return a new family, which is not enabled; TPM_RESOURCES without space."""
        if len(self.families) >= FAMILY_ROWS:
            raise TpmError(TPM_RESOURCES)
        self._last_family_id += 1
        found = TPM_FAMILY_TABLE_ENTRY(label, self._last_family_id, 1, 0)
        self.families[found.family_id] = found
        self.touch()
        return found

    def require_row_number(self, index: int) -> None:
        """Raise TPM_BADINDEX unless the table has a row of that number, used or not."""
        if index >= DELEGATE_ROWS:
            raise TpmError(TPM_BADINDEX)

    def row(self, index: int) -> Row:
        """Return the delegation in that row; TPM_BADINDEX if there is none."""
        found = self.rows.get(index)
        if found is None:
            raise TpmError(TPM_BADINDEX)
        return found

    def owner_clear(self, *, revoke: bool = False) -> None:
        """There are no families and no delegations; family numbers are not used again."""
        self.families.clear()
        self.rows.clear()
        self.owner_reference = TPM_KH_OWNER
        self.touch()

    def startup(self, start: Start) -> None:
        """The owner is the owner, unless a saved state was resumed."""
        if start is not Start.STATE:
            self.owner_reference = TPM_KH_OWNER

    def save(self) -> bytes:
        """Return version, the last family's number, families and rows."""
        return encode(_Permanent(_FORMAT, self._last_family_id, list(self.families.values()),
                                 list(self.rows.values())))

    def restore(self, state: bytes) -> None:
        """Take what `save` gave."""
        found = decode(_Permanent, state)
        if found.version != _FORMAT:
            raise ValueError(f"delegations of version {found.version}")
        self._last_family_id = found.last_family_id
        self.families = {family.family_id: family for family in found.families}
        self.rows = {row.index: row for row in found.rows}

    def save_volatile(self) -> bytes:
        """Return version and the owner reference."""
        return encode(_Volatile(_FORMAT, self.owner_reference))

    def restore_volatile(self, state: bytes) -> None:
        """Take what `save_volatile` gave."""
        found = decode(_Volatile, state)
        if found.version != _FORMAT:
            raise ValueError(f"owner reference of version {found.version}")
        self.owner_reference = found.owner_reference

"""Duplication commands (Part 3, 13)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.types.algorithms import TPM2B_ENCRYPTED_SECRET, TPMT_SYM_DEF_OBJECT
from hwtpm.tpm2.types.constants import TPM_CC_Duplicate, TPM_CC_Import, TPM_CC_Rewrap
from hwtpm.tpm2.types.interface import TPMI_DH_OBJECT
from hwtpm.tpm2.types.objects import TPM2B_PRIVATE, TPM2B_PUBLIC
from hwtpm.tpm2.types.structures import TPM2B_DATA, TPM2B_NAME
from hwtpm.wire import PLUS, SECRET, Role, Wire


class DuplicateResponse(Wire):
    encryption_key_out: Annotated[TPM2B_DATA, SECRET]
    duplicate: TPM2B_PRIVATE
    out_sym_seed: TPM2B_ENCRYPTED_SECRET


class Duplicate(Command[DuplicateResponse]):
    """The loaded object is returned in a form that the new parent can import.  Part 3, 13.1."""

    CC: ClassVar[int] = TPM_CC_Duplicate
    object_handle: Annotated[TPMI_DH_OBJECT, Role.DUP]
    new_parent_handle: Annotated[TPMI_DH_OBJECT, PLUS, Role.NONE]
    encryption_key_in: Annotated[TPM2B_DATA, SECRET]
    symmetric_alg: Annotated[TPMT_SYM_DEF_OBJECT, PLUS]


class RewrapResponse(Wire):
    out_duplicate: TPM2B_PRIVATE
    out_sym_seed: TPM2B_ENCRYPTED_SECRET


class Rewrap(Command[RewrapResponse]):
    """The duplicated object is returned under the seed of another parent.  Part 3, 13.2."""

    CC: ClassVar[int] = TPM_CC_Rewrap
    old_parent: Annotated[TPMI_DH_OBJECT, PLUS, Role.USER]
    new_parent: Annotated[TPMI_DH_OBJECT, PLUS, Role.NONE]
    in_duplicate: TPM2B_PRIVATE
    name: TPM2B_NAME
    in_sym_seed: TPM2B_ENCRYPTED_SECRET


class ImportResponse(Wire):
    out_private: TPM2B_PRIVATE


class Import(Command[ImportResponse]):
    """The duplicated object is returned wrapped by its new parent; it is not loaded.  Part 3, 13.3."""

    CC: ClassVar[int] = TPM_CC_Import
    parent_handle: Annotated[TPMI_DH_OBJECT, Role.USER]
    encryption_key: Annotated[TPM2B_DATA, SECRET]
    object_public: TPM2B_PUBLIC
    duplicate: TPM2B_PRIVATE
    in_sym_seed: TPM2B_ENCRYPTED_SECRET
    symmetric_alg: Annotated[TPMT_SYM_DEF_OBJECT, PLUS]

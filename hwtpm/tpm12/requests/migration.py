"""Migration of keys (Part 3, 11)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.requests.storage import CreateWrapKeyResponse
from hwtpm.tpm12.types.base import SIZED, TPM_DIGEST, TPM_ENCAUTH, TPM_KEY_HANDLE, UINT16, UINT32
from hwtpm.tpm12.types.key import TPM_KEY, TPM_PUBKEY
from hwtpm.tpm12.types.migration import TPM_CMK_AUTH, TPM_MIGRATIONKEYAUTH, TPM_MSA_COMPOSITE
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_AuthorizeMigrationKey,
    TPM_DELEGATE_CMK_ApproveMA,
    TPM_DELEGATE_CMK_CreateTicket,
    TPM_KEY_DELEGATE_CMK_ConvertMigration,
    TPM_KEY_DELEGATE_CMK_CreateBlob,
    TPM_KEY_DELEGATE_CMK_CreateKey,
    TPM_KEY_DELEGATE_ConvertMigrationBlob,
    TPM_KEY_DELEGATE_CreateMigrationBlob,
    TPM_KEY_DELEGATE_MigrateKey,
    TPM_ORD_AuthorizeMigrationKey,
    TPM_ORD_CMK_ApproveMA,
    TPM_ORD_CMK_ConvertMigration,
    TPM_ORD_CMK_CreateBlob,
    TPM_ORD_CMK_CreateKey,
    TPM_ORD_CMK_CreateTicket,
    TPM_ORD_CMK_SetRestrictions,
    TPM_ORD_ConvertMigrationBlob,
    TPM_ORD_CreateMigrationBlob,
    TPM_ORD_MigrateKey,
)
from hwtpm.wire import Boxed, Wire

_MSA_LIST = Annotated[TPM_MSA_COMPOSITE, Boxed(prefix="I")]


class MigrationBlobResponse(Wire):
    random: SIZED
    out_data: SIZED


class CreateMigrationBlob(Command[MigrationBlobResponse]):
    """The private part of a key is ready for another parent.  Part 3, 11.1.

    Of two authorizations the first is for the parent; the last is the migration authorization of the key.
    """

    ORD: ClassVar[int] = TPM_ORD_CreateMigrationBlob
    AUTHS: ClassVar[tuple[int, ...]] = (1, 2)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CreateMigrationBlob
    AUDIT_DEFAULT: ClassVar[bool] = True
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    migration_type: UINT16
    migration_key_auth: TPM_MIGRATIONKEYAUTH
    enc_data: SIZED


class ConvertedResponse(Wire):
    out_data: SIZED


class ConvertMigrationBlob(Command[ConvertedResponse]):
    """The private part that has arrived is under its new parent.  Part 3, 11.2."""

    ORD: ClassVar[int] = TPM_ORD_ConvertMigrationBlob
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_ConvertMigrationBlob
    AUDIT_DEFAULT: ClassVar[bool] = True
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    in_data: SIZED
    random: SIZED


class AuthorizeMigrationKeyResponse(Wire):
    out_data: TPM_MIGRATIONKEYAUTH


class AuthorizeMigrationKey(Command[AuthorizeMigrationKeyResponse]):
    """The owner allows migration to the key.  Part 3, 11.3."""

    ORD: ClassVar[int] = TPM_ORD_AuthorizeMigrationKey
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_AuthorizeMigrationKey
    AUDIT_DEFAULT: ClassVar[bool] = True
    migration_scheme: UINT16
    migration_key: TPM_PUBKEY


class MigrateKey(Command[ConvertedResponse]):
    """What is under the key of a migration authority is under another key.  Part 3, 11.4."""

    ORD: ClassVar[int] = TPM_ORD_MigrateKey
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_MigrateKey
    KEY_HANDLES: ClassVar[int] = 1
    ma_key_handle: TPM_KEY_HANDLE
    pub_key: TPM_PUBKEY
    in_data: SIZED


class CMKSetRestrictions(Command[Empty]):
    """The usages of certified migration keys that can be delegated are set.  Part 3, 11.5."""

    ORD: ClassVar[int] = TPM_ORD_CMK_SetRestrictions
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    restriction: UINT32


class CMKApproveMAResponse(Wire):
    out_data: TPM_DIGEST


class CMKApproveMA(Command[CMKApproveMAResponse]):
    """The owner approves migration authorities.  Part 3, 11.6."""

    ORD: ClassVar[int] = TPM_ORD_CMK_ApproveMA
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_CMK_ApproveMA
    migration_authority_digest: TPM_DIGEST


class CMKCreateKey(Command[CreateWrapKeyResponse]):
    """A key is made that migrates only as its authorities allow.  Part 3, 11.7."""

    ORD: ClassVar[int] = TPM_ORD_CMK_CreateKey
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CMK_CreateKey
    KEY_HANDLES: ClassVar[int] = 1
    LONG: ClassVar[bool] = True
    parent_handle: TPM_KEY_HANDLE
    data_usage_auth: TPM_ENCAUTH
    key_info: TPM_KEY
    migration_authority_approval: TPM_DIGEST
    migration_authority_digest: TPM_DIGEST


class CMKCreateTicketResponse(Wire):
    sig_ticket: TPM_DIGEST


class CMKCreateTicket(Command[CMKCreateTicketResponse]):
    """The signature of a migration authority is verified.  Part 3, 11.8."""

    ORD: ClassVar[int] = TPM_ORD_CMK_CreateTicket
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_CMK_CreateTicket
    verification_key: TPM_PUBKEY
    signed_data: TPM_DIGEST
    signature_value: SIZED


class CMKCreateBlob(Command[MigrationBlobResponse]):
    """The private part of a certified migration key is ready for another parent.  Part 3, 11.9."""

    ORD: ClassVar[int] = TPM_ORD_CMK_CreateBlob
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CMK_CreateBlob
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    migration_type: UINT16
    migration_key_auth: TPM_MIGRATIONKEYAUTH
    pub_source_key_digest: TPM_DIGEST
    msa_list: _MSA_LIST
    restrict_ticket: SIZED
    sig_ticket: SIZED
    enc_data: SIZED


class CMKConvertMigration(Command[ConvertedResponse]):
    """The private part of a certified migration key is under its new parent.  Part 3, 11.10."""

    ORD: ClassVar[int] = TPM_ORD_CMK_ConvertMigration
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    KEY_DELEGATION: ClassVar[int | None] = TPM_KEY_DELEGATE_CMK_ConvertMigration
    KEY_HANDLES: ClassVar[int] = 1
    parent_handle: TPM_KEY_HANDLE
    restrict_ticket: TPM_CMK_AUTH
    sig_ticket: TPM_DIGEST
    migrated_key: TPM_KEY
    msa_list: _MSA_LIST
    random: SIZED

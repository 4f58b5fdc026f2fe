"""Maintenance functions (Part 3, 12)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import SECRET_SIZED, SIZED, TPM_BOOL, TPM_DIGEST, TPM_NONCE
from hwtpm.tpm12.types.key import TPM_PUBKEY
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_CreateMaintenanceArchive,
    TPM_DELEGATE_KillMaintenanceFeature,
    TPM_DELEGATE_LoadMaintenanceArchive,
    TPM_ORD_CreateMaintenanceArchive,
    TPM_ORD_KillMaintenanceFeature,
    TPM_ORD_LoadMaintenanceArchive,
    TPM_ORD_LoadManuMaintPub,
    TPM_ORD_ReadManuMaintPub,
)
from hwtpm.wire import Wire


class CreateMaintenanceArchiveResponse(Wire):
    """*archive* is a TPM_KEY; *random* is empty if the owner's secret was taken in its place."""

    random: SECRET_SIZED
    archive: SIZED


class CreateMaintenanceArchive(Command[CreateMaintenanceArchiveResponse]):
    """The SRK is returned for the manufacturer, who cannot read it without the owner.  Part 3, 12.1."""

    ORD: ClassVar[int] = TPM_ORD_CreateMaintenanceArchive
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_CreateMaintenanceArchive
    AUDIT_DEFAULT: ClassVar[bool] = True
    generate_random: TPM_BOOL


class LoadMaintenanceArchive(Command[Empty]):
    """The TPM has the SRK and the owner of another one.  Part 3, 12.2.

    The arguments are ours to choose.  *archive* is the one that the other TPM made, but encrypted for the SRK
    of this one; *random* is what came with it; *sig* is the signature of the maintenance key over both, one
    after the other (RSASSA-PKCS1-v1_5 with SHA-1).
    """

    ORD: ClassVar[int] = TPM_ORD_LoadMaintenanceArchive
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_LoadMaintenanceArchive
    AUDIT_DEFAULT: ClassVar[bool] = True
    archive: SIZED
    random: SECRET_SIZED
    sig: SIZED


class KillMaintenanceFeature(Command[Empty]):
    """No archive can be made until there is another owner.  Part 3, 12.3."""

    ORD: ClassVar[int] = TPM_ORD_KillMaintenanceFeature
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_KillMaintenanceFeature
    AUDIT_DEFAULT: ClassVar[bool] = True


class ManuMaintPubResponse(Wire):
    checksum: TPM_DIGEST


class LoadManuMaintPub(Command[ManuMaintPubResponse]):
    """The TPM has the manufacturer's maintenance key, for good.  Part 3, 12.4."""

    ORD: ClassVar[int] = TPM_ORD_LoadManuMaintPub
    AUDIT_DEFAULT: ClassVar[bool] = True
    anti_replay: TPM_NONCE
    pub_key: TPM_PUBKEY


class ReadManuMaintPub(Command[ManuMaintPubResponse]):
    """The digest of the maintenance key and the caller's nonce is returned.  Part 3, 12.5."""

    ORD: ClassVar[int] = TPM_ORD_ReadManuMaintPub
    AUDIT_DEFAULT: ClassVar[bool] = True
    anti_replay: TPM_NONCE

"""Authorization sessions (Part 3, 18)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import HANDLE, SIZED, TPM_NONCE, UINT16, UINT32
from hwtpm.tpm12.types.ordinals import TPM_ORD_DSAP, TPM_ORD_OIAP, TPM_ORD_OSAP, TPM_ORD_SetOwnerPointer
from hwtpm.wire import Wire


class OIAPResponse(Wire):
    auth_handle: HANDLE
    nonce_even: TPM_NONCE


class OIAP(Command[OIAPResponse]):
    """A session for any entity is open.  Part 3, 18.1."""

    ORD: ClassVar[int] = TPM_ORD_OIAP
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT


class OSAPResponse(Wire):
    auth_handle: HANDLE
    nonce_even: TPM_NONCE
    nonce_even_osap: TPM_NONCE


class OSAP(Command[OSAPResponse]):
    """A session for one entity is open, under a shared secret.  Part 3, 18.2."""

    ORD: ClassVar[int] = TPM_ORD_OSAP
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT | Needs.OWNER
    entity_type: UINT16
    entity_value: UINT32
    nonce_odd_osap: TPM_NONCE


class DSAPResponse(Wire):
    auth_handle: HANDLE
    nonce_even: TPM_NONCE
    nonce_even_dsap: TPM_NONCE


class DSAP(Command[DSAPResponse]):
    """A session for what a delegation allows is open.  Part 3, 18.3."""

    ORD: ClassVar[int] = TPM_ORD_DSAP
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT | Needs.OWNER
    entity_type: UINT16
    key_handle: UINT32  # of the key for a key delegation; not in the handle area
    nonce_odd_dsap: TPM_NONCE
    entity_value: SIZED


class SetOwnerPointer(Command[Empty]):
    """OIAP and OSAP sessions take that entity for the owner.  Part 3, 18.4."""

    ORD: ClassVar[int] = TPM_ORD_SetOwnerPointer
    NEEDS: ClassVar[Needs] = Needs.OWNED
    entity_type: UINT16
    entity_value: UINT32

"""Admin opt-in: enabling, activating and who may do it (Part 3, 5)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import TPM_BOOL, TPM_SECRET
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_OwnerSetDisable,
    TPM_ORD_OwnerSetDisable,
    TPM_ORD_PhysicalDisable,
    TPM_ORD_PhysicalEnable,
    TPM_ORD_PhysicalSetDeactivated,
    TPM_ORD_SetOperatorAuth,
    TPM_ORD_SetOwnerInstall,
    TPM_ORD_SetTempDeactivated,
)


class SetOwnerInstall(Command[Empty]):
    """An owner can be installed, or not.  Part 3, 5.1."""

    ORD: ClassVar[int] = TPM_ORD_SetOwnerInstall
    AUDIT_DEFAULT: ClassVar[bool] = True
    state: TPM_BOOL


class OwnerSetDisable(Command[Empty]):
    """The owner has disabled or enabled the TPM.  Part 3, 5.2."""

    ORD: ClassVar[int] = TPM_ORD_OwnerSetDisable
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.NO_LOCKOUT | Needs.OWNER
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_OwnerSetDisable
    AUDIT_DEFAULT: ClassVar[bool] = True
    disable_state: TPM_BOOL


class PhysicalEnable(Command[Empty]):
    """The TPM is enabled.  Part 3, 5.3."""

    ORD: ClassVar[int] = TPM_ORD_PhysicalEnable
    NEEDS: ClassVar[Needs] = Needs.WORKING
    AUDIT_DEFAULT: ClassVar[bool] = True


class PhysicalDisable(Command[Empty]):
    """The TPM is disabled.  Part 3, 5.4."""

    ORD: ClassVar[int] = TPM_ORD_PhysicalDisable
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.ENABLED
    AUDIT_DEFAULT: ClassVar[bool] = True


class PhysicalSetDeactivated(Command[Empty]):
    """The TPM is deactivated or activated from the next TPM_Startup(ST_CLEAR) on.  Part 3, 5.5."""

    ORD: ClassVar[int] = TPM_ORD_PhysicalSetDeactivated
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.ENABLED
    AUDIT_DEFAULT: ClassVar[bool] = True
    state: TPM_BOOL


class SetTempDeactivated(Command[Empty]):
    """The TPM is deactivated until the next TPM_Startup(ST_CLEAR).  Part 3, 5.6."""

    ORD: ClassVar[int] = TPM_ORD_SetTempDeactivated
    AUTHS: ClassVar[tuple[int, ...]] = (0, 1)
    NEEDS: ClassVar[Needs] = Needs.WORKING | Needs.ACTIVATED | Needs.NO_LOCKOUT
    AUDIT_DEFAULT: ClassVar[bool] = True


class SetOperatorAuth(Command[Empty]):
    """The TPM has an operator with that secret.  Part 3, 5.7."""

    ORD: ClassVar[int] = TPM_ORD_SetOperatorAuth
    operator_auth: TPM_SECRET

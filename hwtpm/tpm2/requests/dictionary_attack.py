"""Dictionary attack functions (Part 3, 25)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_DictionaryAttackLockReset, TPM_CC_DictionaryAttackParameters
from hwtpm.tpm2.types.interface import TPMI_RH_LOCKOUT
from hwtpm.wire import Role


class DictionaryAttackLockReset(Command[Empty]):
    """No authorization failures are counted and the TPM is not locked out.  Part 3, 25.2."""

    CC: ClassVar[int] = TPM_CC_DictionaryAttackLockReset
    NV: ClassVar[bool] = True
    lock_handle: Annotated[TPMI_RH_LOCKOUT, Role.USER]


class DictionaryAttackParameters(Command[Empty]):
    """The limits of the dictionary attack protection are set; times are in seconds.  Part 3, 25.3."""

    CC: ClassVar[int] = TPM_CC_DictionaryAttackParameters
    NV: ClassVar[bool] = True
    lock_handle: Annotated[TPMI_RH_LOCKOUT, Role.USER]
    new_max_tries: UINT32
    new_recovery_time: UINT32
    lockout_recovery: UINT32

"""Command audit (Part 3, 21)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.constants import TPM_CC_SetCommandCodeAuditStatus
from hwtpm.tpm2.types.interface import TPMI_ALG_HASH, TPMI_RH_PROVISION
from hwtpm.tpm2.types.structures import TPML_CC
from hwtpm.wire import PLUS, Role


class SetCommandCodeAuditStatus(Command[Empty]):
    """The audit digest uses another algorithm, or other commands are audited.  Part 3, 21.2."""

    CC: ClassVar[int] = TPM_CC_SetCommandCodeAuditStatus
    NV: ClassVar[bool] = True
    auth: Annotated[TPMI_RH_PROVISION, Role.USER]
    audit_alg: Annotated[TPMI_ALG_HASH, PLUS]
    set_list: TPML_CC
    clear_list: TPML_CC

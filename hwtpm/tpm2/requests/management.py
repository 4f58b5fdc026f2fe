"""Miscellaneous management functions (Part 3, 26)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.base import UINT32
from hwtpm.tpm2.types.constants import TPM_CC_PP_Commands, TPM_CC_SetAlgorithmSet
from hwtpm.tpm2.types.interface import TPMI_RH_PLATFORM
from hwtpm.tpm2.types.structures import TPML_CC
from hwtpm.wire import Role


class PPCommands(Command[Empty]):
    """Other commands demand physical presence.  Part 3, 26.2."""

    CC: ClassVar[int] = TPM_CC_PP_Commands
    NV: ClassVar[bool] = True
    auth: Annotated[TPMI_RH_PLATFORM, Role.USER]
    set_list: TPML_CC
    clear_list: TPML_CC


class SetAlgorithmSet(Command[Empty]):
    """The vendor-defined algorithm set is selected.  Part 3, 26.3."""

    CC: ClassVar[int] = TPM_CC_SetAlgorithmSet
    NV: ClassVar[bool] = True
    auth_handle: Annotated[TPMI_RH_PLATFORM, Role.USER]
    algorithm_set: UINT32

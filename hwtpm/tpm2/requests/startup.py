"""Start-up commands (Part 3, 9)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.constants import TPM_CC_Shutdown, TPM_CC_Startup
from hwtpm.tpm2.types.interface import TPM_SU


class Startup(Command[Empty]):
    """The TPM is initialized as *startup_type* says and answers other commands.  Part 3, 9.3."""

    CC: ClassVar[int] = TPM_CC_Startup
    NV: ClassVar[bool] = True
    NO_SESSIONS: ClassVar[bool] = True
    startup_type: TPM_SU


class Shutdown(Command[Empty]):
    """The state that the next Startup of *shutdown_type* needs is in NV memory.  Part 3, 9.4."""

    CC: ClassVar[int] = TPM_CC_Shutdown
    NV: ClassVar[bool] = True
    shutdown_type: TPM_SU

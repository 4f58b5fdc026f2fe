"""Context management (Part 3, 28)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from hwtpm.tpm2.requests.command import Command, Empty
from hwtpm.tpm2.types.constants import (
    TPM_CC_ContextLoad,
    TPM_CC_ContextSave,
    TPM_CC_EvictControl,
    TPM_CC_FlushContext,
)
from hwtpm.tpm2.types.context import TPMS_CONTEXT
from hwtpm.tpm2.types.interface import TPMI_DH_CONTEXT, TPMI_DH_OBJECT, TPMI_DH_PERSISTENT, TPMI_RH_PROVISION
from hwtpm.wire import Role, Wire


class ContextSaveResponse(Wire):
    context: TPMS_CONTEXT


class ContextSave(Command[ContextSaveResponse]):
    """The protected context is returned; a session is no longer loaded, an object still is.  Part 3, 28.2."""

    CC: ClassVar[int] = TPM_CC_ContextSave
    NO_SESSIONS: ClassVar[bool] = True
    save_handle: Annotated[TPMI_DH_CONTEXT, Role.NONE]


class ContextLoadResponse(Wire):
    loaded_handle: Annotated[TPMI_DH_CONTEXT, Role.NONE]


class ContextLoad(Command[ContextLoadResponse]):
    """The saved object, sequence or session is loaded.  Part 3, 28.3."""

    CC: ClassVar[int] = TPM_CC_ContextLoad
    NO_SESSIONS: ClassVar[bool] = True
    context: TPMS_CONTEXT


class FlushContext(Command[Empty]):
    """The transient object or session is gone; its handle is a parameter.  Part 3, 28.4."""

    CC: ClassVar[int] = TPM_CC_FlushContext
    NO_SESSIONS: ClassVar[bool] = True
    flush_handle: TPMI_DH_CONTEXT


class EvictControl(Command[Empty]):
    """The transient object is persistent as well, or the persistent object is gone.  Part 3, 28.5."""

    CC: ClassVar[int] = TPM_CC_EvictControl
    NV: ClassVar[bool] = True
    auth: Annotated[TPMI_RH_PROVISION, Role.USER]
    object_handle: Annotated[TPMI_DH_OBJECT, Role.NONE]
    persistent_handle: TPMI_DH_PERSISTENT

"""Audit events (Part 2, 14)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.types.base import TPM_DIGEST
from hwtpm.tpm12.types.constants import TPM_TAG_AUDIT_EVENT_IN, TPM_TAG_AUDIT_EVENT_OUT
from hwtpm.tpm12.types.counter import TPM_COUNTER_VALUE
from hwtpm.wire import Wire


class TPM_AUDIT_EVENT_IN(Wire):
    """A command was received; the digest is that of its authorization.  Part 2, 14.1."""

    TAG: ClassVar[int] = TPM_TAG_AUDIT_EVENT_IN
    input_parms: TPM_DIGEST
    audit_count: TPM_COUNTER_VALUE


class TPM_AUDIT_EVENT_OUT(Wire):
    """A command was answered; the digest is that of the response's authorization.  Part 2, 14.2."""

    TAG: ClassVar[int] = TPM_TAG_AUDIT_EVENT_OUT
    output_parms: TPM_DIGEST
    audit_count: TPM_COUNTER_VALUE

"""Monotonic counters (Part 3, 25)."""

from __future__ import annotations

from typing import ClassVar

from hwtpm.tpm12.requests.command import Command, Empty, Needs
from hwtpm.tpm12.types.base import TPM_ENCAUTH
from hwtpm.tpm12.types.counter import TPM_COUNT_ID, TPM_COUNTER_LABEL, TPM_COUNTER_VALUE
from hwtpm.tpm12.types.ordinals import (
    TPM_DELEGATE_CreateCounter,
    TPM_DELEGATE_ReleaseCounterOwner,
    TPM_ORD_CreateCounter,
    TPM_ORD_IncrementCounter,
    TPM_ORD_ReadCounter,
    TPM_ORD_ReleaseCounter,
    TPM_ORD_ReleaseCounterOwner,
)
from hwtpm.wire import Wire


class CreateCounterResponse(Wire):
    count_id: TPM_COUNT_ID
    counter_value: TPM_COUNTER_VALUE


class CreateCounter(Command[CreateCounterResponse]):
    """There is a new counter.  Part 3, 25.1."""

    ORD: ClassVar[int] = TPM_ORD_CreateCounter
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_CreateCounter
    enc_auth: TPM_ENCAUTH
    label: TPM_COUNTER_LABEL


class CounterResponse(Wire):
    counter_value: TPM_COUNTER_VALUE


class IncrementCounter(Command[CounterResponse]):
    """The counter has one more.  Part 3, 25.2."""

    ORD: ClassVar[int] = TPM_ORD_IncrementCounter
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    count_id: TPM_COUNT_ID


class ReadCounter(Command[CounterResponse]):
    """The value of the counter is returned.  Part 3, 25.3."""

    ORD: ClassVar[int] = TPM_ORD_ReadCounter
    count_id: TPM_COUNT_ID


class ReleaseCounter(Command[Empty]):
    """There is no such counter any more; with its own authorization.  Part 3, 25.4."""

    ORD: ClassVar[int] = TPM_ORD_ReleaseCounter
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    count_id: TPM_COUNT_ID


class ReleaseCounterOwner(Command[Empty]):
    """There is no such counter any more; with the owner's authorization.  Part 3, 25.5."""

    ORD: ClassVar[int] = TPM_ORD_ReleaseCounterOwner
    AUTHS: ClassVar[tuple[int, ...]] = (1,)
    NEEDS: ClassVar[Needs] = Needs.OWNED
    OWNER_DELEGATION: ClassVar[int | None] = TPM_DELEGATE_ReleaseCounterOwner
    count_id: TPM_COUNT_ID

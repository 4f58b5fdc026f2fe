"""Every command that may take long asks often enough whether it should end, and then changes nothing.

`tests/cusetpm/test_cancel.py` has the way of a request to cancel through rings and devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from hwtpm import snapshot as frame
from hwtpm.crypto import ecc
from hwtpm.tpm2 import commands, profile
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.engine import _RUNNING
from hwtpm.tpm2.requests.asymmetric import ZGen2Phase
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.ephemeral import Commit, ECEphemeral
from hwtpm.tpm2.requests.hierarchy import CreatePrimary
from hwtpm.tpm2.requests.object import Create, CreateLoaded
from hwtpm.tpm2.requests.testing import GetTestResult, IncrementalSelfTest, SelfTest
from hwtpm.tpm2.types import constants as c
from hwtpm.tpm2.types.algorithms import TPMS_ECC_POINT, TPMS_SCHEME_ECDAA, TPMS_SENSITIVE_CREATE
from hwtpm.tpm2.types.handles import TPM_RH_NULL, TPM_RH_OWNER
from hwtpm.tpm2.types.objects import TPMS_ECC_PARMS
from hwtpm.wire import encode
from tests.support import templates
from tests.support.tpm2 import Machine, refused
from tests.support.tpm2_keys import DECRYPT, SIGN, elliptic, load
from tests.support.tpm2_pair import run

LIMIT_S = 0.050
NOTHING = TPMS_SENSITIVE_CREATE(b"", b"")
NO_POINT = TPMS_ECC_POINT(b"", b"")
RSA = sorted(profile.RSA_KEY_BITS)
Case = tuple[str, Callable[[Machine], Command[Any]]]


def parent(m: Machine) -> int:
    request = CreatePrimary(TPM_RH_OWNER, NOTHING, templates.storage(), b"", [])
    made: int = run(m.client, request).object_handle
    return made


def commit(curve: int) -> Callable[[Machine], Command[Any]]:
    def make(m: Machine) -> Command[Any]:
        public, sensitive = elliptic(SIGN, c.TPM_ALG_ECDAA, c.TPM_ALG_SHA256, curve=curve)
        assert isinstance(public.parameters, TPMS_ECC_PARMS)
        public.parameters.scheme.details = TPMS_SCHEME_ECDAA(c.TPM_ALG_SHA256, 0)
        return Commit(load(m.client, (public, sensitive)), point(curve), b"", b"")

    return make


def exchange(curve: int, scheme: int) -> Callable[[Machine], Command[Any]]:
    def make(m: Machine) -> Command[Any]:
        key = load(m.client, elliptic(DECRYPT, curve=curve))
        counter = m.run(ECEphemeral(curve)).counter
        return ZGen2Phase(key, point(curve), point(curve), scheme, counter)

    return make


def point(curve: int) -> TPMS_ECC_POINT:
    return TPMS_ECC_POINT(*ecc.EccPrivate(curve, 7).public)


CASES: list[Case] = [
    *[(f"CreatePrimary-{bits}", lambda m, bits=bits: CreatePrimary(  # type: ignore[misc]
        TPM_RH_NULL, NOTHING, templates.rsa(bits=bits), b"", [])) for bits in RSA],
    *[(f"CreatePrimary-{curve:#x}", lambda m, curve=curve: CreatePrimary(  # type: ignore[misc]
        TPM_RH_NULL, NOTHING, templates.ecc(curve=curve), b"", [])) for curve in profile.ECC_CURVES],
    *[(f"Create-{bits}", lambda m, bits=bits: Create(  # type: ignore[misc]
        parent(m), NOTHING, templates.rsa(bits=bits), b"", [])) for bits in RSA],
    *[(f"Create-{curve:#x}", lambda m, curve=curve: Create(  # type: ignore[misc]
        parent(m), NOTHING, templates.ecc(curve=curve), b"", [])) for curve in profile.ECC_CURVES],
    ("CreateLoaded-4096", lambda m: CreateLoaded(parent(m), NOTHING, encode(templates.rsa(bits=4096)))),
    ("CreateLoaded-0x11", lambda m: CreateLoaded(
        TPM_RH_NULL, NOTHING, encode(templates.ecc(curve=c.TPM_ECC_BN_P638)))),
    *[(f"Commit-{curve:#x}", commit(curve)) for curve in profile.ECC_CURVES],
    *[(f"ZGen2Phase-{curve:#x}-{scheme:#x}", exchange(curve, scheme)) for curve in profile.ECC_CURVES
      for scheme in (c.TPM_ALG_ECDH, c.TPM_ALG_ECMQV, c.TPM_ALG_SM2)],
    ("SelfTest", lambda m: SelfTest(1)),
    ("IncrementalSelfTest", lambda m: IncrementalSelfTest([c.TPM_ALG_SHA256, c.TPM_ALG_RSA])),
    ("GetTestResult", lambda m: GetTestResult()),
]
ON_THEIR_WAY = ["CreatePrimary-2048", "CreatePrimary-3072", "Create-2048", "Create-3072", "SelfTest"]
EVERY = pytest.mark.parametrize("make", [make for _, make in CASES], ids=[name for name, _ in CASES])


def state(machine: Machine) -> dict[bytes, bytes]:
    """Return all state but that of the random generator."""
    permanent = machine.engine.snapshot()
    sections = frame.unpack_running(*_RUNNING, "TPM", machine.engine.snapshot_running(), permanent)
    del sections[b"rand"]
    return {**sections, b"": permanent}


def test_there_is_a_case_for_every_command_that_may_take_long() -> None:
    commands.load()
    long = {entry.request.__name__ for entry in COMMANDS.values() if entry.request.LONG}
    assert {name.split("-")[0] for name, _ in CASES} == long


@EVERY
def test_a_command_that_is_cancelled_before_it_begins_does_nothing(
        machine: Machine, make: Callable[[Machine], Command[Any]]) -> None:
    request = make(machine)
    before = state(machine)
    machine.cancelled = lambda: True
    with refused(c.TPM_RC_CANCELED):
        run(machine.client, request)
    assert state(machine) == before
    machine.cancelled = bool
    run(machine.client, request)


@EVERY
def test_a_command_asks_again_before_50_ms_have_passed(
        machine: Machine, make: Callable[[Machine], Command[Any]]) -> None:
    """Counted is the time of the processor, so that what else runs on the machine does not matter."""
    request = make(machine)
    asked: list[float] = []

    def cancelled() -> bool:
        asked.append(time.thread_time())
        return False

    machine.cancelled = cancelled
    begun = time.thread_time()
    run(machine.client, request)
    moments = [begun, *asked, time.thread_time()]
    assert asked
    assert max(later - earlier for earlier, later in pairwise(moments)) < LIMIT_S


@pytest.mark.parametrize("make", [make for name, make in CASES if name in ON_THEIR_WAY], ids=ON_THEIR_WAY)
def test_a_command_that_is_cancelled_on_its_way_changes_nothing(
        machine: Machine, make: Callable[[Machine], Command[Any]]) -> None:
    """At any question; the self-test keeps what has been tested by then."""
    request, chosen = make(machine), Random(4711)
    for _ in range(5):
        left = chosen.randrange(1, 9)
        before = state(machine)

        def cancelled() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        machine.cancelled = cancelled
        with refused(c.TPM_RC_CANCELED):
            run(machine.client, request)
        after = state(machine)
        if isinstance(request, SelfTest):
            del before[b"powr"], after[b"powr"]
        assert after == before

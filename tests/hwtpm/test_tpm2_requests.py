"""The declared requests: their codes, attributes and codecs."""

from __future__ import annotations

import json
import pkgutil
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.command import response_of
from hwtpm.errors import TpmError
from hwtpm.tpm2 import profile, requests
from hwtpm.tpm2.requests.asymmetric import ECCParametersResponse
from hwtpm.tpm2.requests.command import Command, Empty, tpma_cc
from hwtpm.tpm2.requests.ephemeral import CommitResponse
from hwtpm.tpm2.requests.pcr import PCRReadResponse
from hwtpm.tpm2.types import constants
from hwtpm.tpm2.types.algorithms import (
    TPMS_ALGORITHM_DETAIL_ECC,
    TPMS_ECC_POINT,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
)
from hwtpm.wire import Role, Wire, handle_area, members, parameter_area, parameter_reader, parameter_writer

VECTORS = Path(__file__).parents[1] / "vectors"
SWTPM: dict[str, str] = json.loads((VECTORS / "tpma_cc_swtpm.json").read_text())


def declared() -> list[type[Command[Any]]]:
    found: list[type[Command[Any]]] = []
    for module in pkgutil.iter_modules(requests.__path__):
        classes = vars(import_module(f"{requests.__name__}.{module.name}")).values()
        found += [c for c in classes if isinstance(c, type) and issubclass(c, Command) and c is not Command]
    return found


REQUESTS = declared()
WIRED: list[type[Wire]] = [*REQUESTS, *{response_of(r): None for r in REQUESTS}]
ALTERNATIVES = {"HMAC", "MAC", "HMACStart", "MACStart"}  # A TPM has one of each pair (Part 2, 6.5.2).
# Codes of ours are without TPM_: they are no constants of the specification.
CODES = {n.removeprefix("TPM_").removeprefix("CC_"): v for n, v in vars(constants).items()
         if n.startswith(("TPM_CC_", "CC_")) and n != "CC_VEND"}
NOT_DECLARED = {"FIRST", "LAST", "Vendor_TCG_Test"}  # The last only tests the dispatch of vendor commands.


def test_every_code_is_declared_once_under_its_name() -> None:
    by_name = {n.replace("_", "").lower(): v for n, v in CODES.items() if n not in NOT_DECLARED}
    assert {r.__name__.lower(): r.CC for r in REQUESTS} == by_name
    assert len({r.__name__ for r in REQUESTS}) == len(REQUESTS)


def test_only_alternatives_share_a_code() -> None:
    count = Counter(r.CC for r in REQUESTS)
    assert {r.__name__ for r in REQUESTS if count[r.CC] > 1} == ALTERNATIVES


def test_every_request_names_its_response() -> None:
    assert [r for r in REQUESTS if response_of(r).__name__ not in {"Empty", f"{r.__name__}Response"}] == []
    assert not members(Empty)


def test_handles_come_first_and_the_authorized_ones_before_the_others() -> None:
    for wired in WIRED:
        handles = handle_area(wired)
        assert members(wired) == handles + parameter_area(wired), wired
        authorized = [m.role is not Role.NONE for m in handles]
        assert authorized == sorted(authorized, reverse=True), wired
        assert len(handles) <= 3, wired


def test_at_most_one_handle_in_a_response_and_none_authorized() -> None:
    for request in REQUESTS:
        assert [m.role for m in handle_area(response_of(request))] in ([], [Role.NONE]), request


def test_codecs_of_all_areas_compile() -> None:
    for wired in WIRED:
        assert callable(parameter_reader(wired))
        assert callable(parameter_writer(wired))


@given(st.sampled_from(WIRED), st.binary(max_size=60) | st.binary(max_size=6).map(lambda b: bytes(60) + b))
def test_what_decodes_encodes_to_the_same_octets(wired: type[Wire], raw: bytes) -> None:
    try:
        value, off = parameter_reader(wired)(raw, 0, tuple(range(len(handle_area(wired)))))
    except TpmError:
        return
    assert parameter_writer(wired)(value) == raw[:off]


POINT = TPMS_ECC_POINT(b"\1" * 32, b"\2" * 32)
CURVE = TPMS_ALGORITHM_DETAIL_ECC(
    constants.TPM_ECC_NIST_P256, 256,
    TPMT_KDF_SCHEME(constants.TPM_ALG_NULL), TPMT_ECC_SCHEME(constants.TPM_ALG_NULL),
    b"p", b"a", b"b", b"gx", b"gy", b"order", b"h",
)


@pytest.mark.parametrize("value", [
    ECCParametersResponse(CURVE),
    CommitResponse(POINT, POINT, POINT, 7),
    PCRReadResponse(1, [], [bytes(profile.MAX_DIGEST_SIZE)]),  # Fewer digests than PolicyOR demands.
], ids=lambda v: type(v).__name__)
def test_a_response_decodes_to_the_value_that_was_encoded(value: Wire) -> None:
    raw = parameter_writer(type(value))(value)
    assert parameter_reader(type(value))(raw, 0, ()) == (value, len(raw))


def test_derived_attributes_equal_those_of_swtpm() -> None:
    ours = {f"0x{r.CC:08x}": f"0x{tpma_cc(r):08x}" for r in REQUESTS}
    assert {code: ours[code] for code in SWTPM} == SWTPM


def test_only_context_commands_and_startup_refuse_sessions() -> None:
    assert {r.__name__ for r in REQUESTS if r.NO_SESSIONS} == {
        "Startup", "ContextSave", "ContextLoad", "FlushContext"}

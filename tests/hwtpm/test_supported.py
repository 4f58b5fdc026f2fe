"""docs/supported-tpm.md says what the registry and the profile say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwtpm.crypto import ids
from hwtpm.tpm2 import profile
from hwtpm.tpm2.commands import load
from hwtpm.tpm2.commands.capability import ALGORITHMS
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.requests.hierarchy import SetPrimaryPolicy
from hwtpm.tpm2.types import constants
from hwtpm.tpm2.types.handles import TPM_RH_OWNER
from hwtpm.tpm12 import profile as profile12
from hwtpm.tpm12.commands import load as load12
from hwtpm.tpm12.context import COMMANDS as COMMANDS12
from hwtpm.tpm12.types import ordinals
from hwtpm.tpm12.types.codes import TPM_BAD_ORDINAL
from tests.support import tpm12
from tests.support.tpm2 import refused, started
from tests.support.tpm2_pair import run

# The limits of libtpms 0.9 to 0.11 (TpmProfile), whose NV memory indices and persistent objects share.
LIBTPMS = {
    "MAX_LOADED_OBJECTS": 3, "MAX_LOADED_SESSIONS": 3, "MAX_ACTIVE_SESSIONS": 64, "MAX_EVICT_OBJECTS": 65,
    "MAX_NV_INDEX_SIZE": 2048, "NV_INDEX_SPACE": 128 * 1024 + 65 * 704, "RAM_INDEX_SPACE": 512,
    "MAX_NV_BUFFER_SIZE": 1024, "MAX_COMMAND_SIZE": 4096, "MAX_RESPONSE_SIZE": 4096, "MAX_CONTEXT_SIZE": 2680,
    "MAX_DIGEST_BUFFER": 1024, "MAX_CAP_BUFFER": 1024, "MAX_SYM_DATA": 128, "MAX_RSA_KEY_BITS": 4096,
    "IMPLEMENTATION_PCR": 24, "SPLIT_MAX": 128,
}
DOCUMENT, DOCUMENT_1_2 = (Path(__file__).parents[2] / "docs" / "supported-tpm.md").read_text().split(
    "\n# What the TPM 1.2 supports\n")
SUPPORTED, ABSENT, NOT_YET = "supported", "absent", "not yet"


def rows(pattern: str, document: str = DOCUMENT) -> dict[str, str]:
    """Return what the tables say of each name that matches *pattern*: the cell after it."""
    found = re.findall(rf"\| ({pattern}) \| ([^|]*?) \|", document)
    assert len(found) == len(dict(found)), "a name is there twice"
    return dict(found)


def named(prefix: str, *left_out: str) -> dict[str, int]:
    return {name: value for name, value in vars(constants).items()
            if name.startswith(prefix) and name.removeprefix(prefix) not in left_out}


def test_every_command_has_its_status() -> None:
    load()
    told = {"TPM_CC_" + name.removeprefix("TPM2_"): status for name, status in rows(r"TPM2_\w+").items()}
    codes = named("TPM_CC_", "FIRST", "LAST")
    assert told == {name: SUPPORTED if code in COMMANDS else ABSENT for name, code in codes.items()}


def test_every_command_is_in_the_chapter_of_its_handler() -> None:
    """The number in the first column is that of the request's docstring, "Part 3, N.M."."""
    load()
    chapters = {name: chapter for chapter, name in re.findall(r"\| (\d+) \| (TPM2_\w+) \|", DOCUMENT)}
    for name, chapter in chapters.items():
        entry = COMMANDS.get(getattr(constants, "TPM_CC_" + name.removeprefix("TPM2_")))
        if entry is not None:
            assert f"Part 3, {chapter}." in (entry.request.__doc__ or ""), name


def test_every_algorithm_has_its_status() -> None:
    told = rows(r"TPM_ALG_\w+")
    assert told.keys() == named("TPM_ALG_", "ERROR", "NULL").keys()
    for name, status in told.items():
        alg = getattr(constants, name)
        if alg != ids.SM3_256:
            assert status == (SUPPORTED if alg in ALGORITHMS else ABSENT), name
    assert told["TPM_ALG_SM3_256"] == SUPPORTED


def test_every_curve_has_its_status() -> None:
    told = rows(r"TPM_ECC_\w+")
    curves = named("TPM_ECC_", "NONE")
    assert told == {name: SUPPORTED if curve in profile.ECC_CURVES else ABSENT
                    for name, curve in curves.items()}


def test_every_limit_is_that_of_the_profile() -> None:
    told = rows(r"(?!TPM)[A-Z][A-Z_]+")
    assert told == {name: str(getattr(profile, name)) for name in told}
    assert "MAX_LOADED_OBJECTS" in told


def test_no_limit_is_lower_than_that_of_libtpms() -> None:
    assert [name for name, limit in LIBTPMS.items() if getattr(profile, name) < limit] == []


@pytest.mark.parametrize("code", sorted(
    getattr(constants, "TPM_CC_" + name.removeprefix("TPM2_"))
    for name, status in rows(r"TPM2_\w+").items() if status == ABSENT))
def test_an_absent_command_is_answered_as_the_document_says(code: int) -> None:
    response = started().execute(b"\x80\1\0\0\0\x0a" + code.to_bytes(4, "big"))
    assert int.from_bytes(response[6:], "big") == constants.TPM_RC_COMMAND_CODE


def test_absent_algorithms_are_refused() -> None:
    machine = started()
    for name in ("SHA256_192", "SHAKE256_256", "MLKEM"):
        request = SetPrimaryPolicy(TPM_RH_OWNER, b"", getattr(constants, f"TPM_ALG_{name}"))
        with refused(constants.TPM_RC_HASH | 0x240):
            run(machine.client, request)


def test_the_numbers_of_the_text_are_those_of_the_code() -> None:
    for alg in profile.PCR_BANKS:
        assert {ids.SHA1: "SHA-1", ids.SHA256: "SHA-256", ids.SHA384: "SHA-384",
                ids.SHA512: "SHA-512"}[alg] in DOCUMENT
    keys = ", ".join(map(str, sorted(profile.RSA_KEY_BITS)[:-1]))
    assert f"keys of {keys} and {max(profile.RSA_KEY_BITS)} bits" in DOCUMENT


# The limits of libtpms' TPM 1.2 as it is built (src/tpm12/tpm_structures.h, src/Makefile.am).
LIBTPMS_1_2 = {
    "NUM_PCR": 24, "KEY_HANDLES": 20, "OWNER_EVICT_KEY_HANDLES": 10, "AUTH_SESSIONS": 16,
    "TRANSPORT_SESSIONS": 16, "SESSION_LIST": 128,
    "COUNTERS": 8, "FAMILY_ROWS": 16, "DELEGATE_ROWS": 4, "NV_OCTETS": 2100, "MAX_NV_WRITE_NOOWNER": 64,
    "BUFFER_SIZE": 4096,
}


def ordinals_1_2() -> dict[str, int]:
    found = {name: ordinal for name, ordinal in vars(ordinals).items() if "_ORD_" in name}
    return {name.replace("_ORD_", "_"): ordinal for name, ordinal in found.items()}


def statuses_1_2() -> dict[str, str]:
    return rows(r"TPM_\w+|TSC_\w+", DOCUMENT_1_2)


def test_every_ordinal_has_its_status() -> None:
    load12()
    told = statuses_1_2()
    assert told.keys() == ordinals_1_2().keys()
    for name, ordinal in ordinals_1_2().items():
        expected = {SUPPORTED} if ordinal in COMMANDS12 else {ABSENT, NOT_YET}
        assert told[name] in expected, name


def test_every_ordinal_is_in_the_chapter_of_its_handler() -> None:
    load12()
    found = re.findall(r"\| ([\d.]+) \| (T(?:PM|SC)_\w+) \|", DOCUMENT_1_2)
    chapters = {name: chapter for chapter, name in found}
    assert chapters.keys() == ordinals_1_2().keys()
    for name, ordinal in ordinals_1_2().items():
        if ordinal in COMMANDS12:
            assert f"Part 3, {chapters[name]}." in (COMMANDS12[ordinal].request.__doc__ or ""), name


@pytest.mark.parametrize("name", sorted(
    name for name, status in statuses_1_2().items() if status in (ABSENT, NOT_YET)))
def test_an_ordinal_that_is_not_there_is_answered_as_the_document_says(name: str) -> None:
    response = tpm12.started().execute(b"\0\xc1\0\0\0\x0a" + ordinals_1_2()[name].to_bytes(4, "big"))
    assert int.from_bytes(response[6:], "big") == TPM_BAD_ORDINAL


def test_every_limit_of_1_2_is_that_of_the_profile_and_no_lower_than_that_of_libtpms() -> None:
    told = rows(r"(?!TPM|TSC|TRUE)[A-Z][A-Z_]+", DOCUMENT_1_2)
    assert told == {name: str(getattr(profile12, name)) for name in told}
    assert told.keys() >= LIBTPMS_1_2.keys()
    assert [name for name, limit in LIBTPMS_1_2.items() if int(told[name]) < limit] == []


def test_nothing_asks_the_caller_to_try_again() -> None:
    """The document promises it, so no module but that of the constants knows these codes."""
    engine = Path(profile.__file__).parent
    sources = {path: path.read_text() for path in engine.rglob("*.py") if path.name != "constants.py"}
    assert len(sources) > 50
    for name in ("RETRY", "YIELDED", "TESTING"):
        assert hasattr(constants, f"TPM_RC_{name}")
        assert f"`TPM_RC_{name}`" in DOCUMENT
        assert [path.name for path, text in sources.items() if f"TPM_RC_{name}" in text] == []

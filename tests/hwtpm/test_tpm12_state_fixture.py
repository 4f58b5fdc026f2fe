"""The state of every version of the format of TPM 1.2 can be loaded, and means what it meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwtpm.tpm12.engine import PERMANENT_VERSION
from hwtpm.tpm12.requests.startup import Startup
from hwtpm.tpm12.types.constants import TPM_ST_CLEAR, TPM_ST_STATE
from hwtpm.wire import decode
from tests.support.tpm12 import Machine
from tests.support.tpm12_fixtures import Known, ask

FILES = sorted((Path(__file__).resolve().parents[1] / "vectors").glob("state12-*.json"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
@pytest.mark.parametrize(("name", "kind"), [("state", TPM_ST_STATE), ("clear", TPM_ST_CLEAR)])
def test_a_stored_state_is_read(path: Path, name: str, kind: int) -> None:
    """After a TPM_Startup that resumes what TPM_SaveState kept, and after one that does not."""
    stored = json.loads(path.read_text())
    m = Machine(b"another", bytes.fromhex(stored["snapshot"]))
    m.run(Startup(kind))
    assert ask(m, decode(Known, bytes.fromhex(stored["known"]))) == stored["answers"][name]


def test_there_is_a_file_of_today() -> None:
    """A change of the format needs a new version, with a file of its own (tests/support)."""
    versions = [json.loads(path.read_text())["version"] for path in FILES]
    assert versions == list(range(1, PERMANENT_VERSION + 1))

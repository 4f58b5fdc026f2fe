"""The TPMs that tests of the engine ask for by name; a module that needs another kind has its own fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwtpm.client import Client
from tests.support.tpm2 import Machine, started
from tests.support.tpm2_either import EITHER, either
from tests.support.tpm2_pair import Pair, paired


@pytest.fixture
def machine() -> Machine:
    """Our TPM after Startup(CLEAR)."""
    return started()


@pytest.fixture(params=EITHER)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """The client of our TPM, and in a run of its own that of swtpm."""
    with either(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both TPMs, the same for all tests of a module."""
    with paired() as both:
        yield both


@pytest.fixture
def fresh() -> Iterator[Pair]:
    """Both TPMs, as nobody has used them."""
    with paired() as both:
        yield both

"""Our TPM and swtpm side by side: the same requests to both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from hwtpm.client import Authorization, Client, Password
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.tpm2.requests.command import Command
from hwtpm.tpm2.requests.context import FlushContext
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from hwtpm.wire import Wire, handle_area
from tests.support.swtpm import Swtpm
from tests.support.tpm2 import Machine, rc_of, started
from tests.support.tpm2_keys import Areas, load

R = TypeVar("R", bound=Wire)


def run(client: Client, request: Command[R], *sessions: Authorization) -> R:
    """Run *request*; unless told otherwise, with an empty password for each handle that needs one."""
    roles = sum(1 for member in handle_area(type(request)) if member.role is not None and member.role.value)
    return client.run(request, *(sessions or [Password()] * roles))


class Pair:
    """`ours` and `theirs` are clients of the two, after Startup(CLEAR)."""

    def __init__(self, machine: Machine, other: Swtpm) -> None:
        self.machine = machine
        self.ours = machine.client
        self.theirs = Client(other.execute, CtrDrbg(b"nonces for swtpm").generate)

    @contextmanager
    def loaded(self, areas: Areas, *, public_only: bool = False,
               hierarchy: int = TPM_RH_NULL) -> Iterator[int]:
        """Have a key loaded in both; its handle is the same."""
        handle = load(self.theirs, areas, public_only=public_only, hierarchy=hierarchy)
        assert load(self.ours, areas, public_only=public_only, hierarchy=hierarchy) == handle
        try:
            yield handle
        finally:
            for client in (self.ours, self.theirs):
                client.run(FlushContext(handle))

    def codes(self, request: Command[R], *sessions: Authorization) -> tuple[int, int]:
        """Return the response codes of both, 0 for success."""
        return (rc_of(lambda: run(self.ours, request, *sessions)),
                rc_of(lambda: run(self.theirs, request, *sessions)))

    def answers(self, request: Command[R], *sessions: Authorization) -> tuple[R, R]:
        """Return the responses of both."""
        return run(self.ours, request, *sessions), run(self.theirs, request, *sessions)


@contextmanager
def paired() -> Iterator[Pair]:
    """Have both running; skips the test without swtpm."""
    with Swtpm() as other:
        yield Pair(started(), other)

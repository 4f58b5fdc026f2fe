"""Spaces and the user of /dev/tpmN, in any order: each finds what it would find on a TPM of its own."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cusetpm.rm.space import SESSIONS
from cusetpm.transport import NotExecuted
from hwtpm.client import Client, Password, Session
from hwtpm.errors import TpmError
from hwtpm.tpm2.context import COMMANDS
from hwtpm.tpm2.requests.context import ContextLoad, ContextSave, FlushContext
from hwtpm.tpm2.requests.object import ReadPublic
from hwtpm.tpm2.requests.policy import PolicyCommandCode, PolicyGetDigest
from hwtpm.tpm2.requests.sequence import HashSequenceStart, HMACStart, SequenceComplete, SequenceUpdate
from hwtpm.tpm2.requests.symmetric import HMAC
from hwtpm.tpm2.state import objects as state_objects
from hwtpm.tpm2.state import sessions as state_sessions
from hwtpm.tpm2.types.attributes import TPMA_SESSION_CONTINUESESSION
from hwtpm.tpm2.types.constants import (
    TPM_ALG_NULL,
    TPM_ALG_SHA256,
    TPM_SE_POLICY,
    TPM_CC_Sign,
    TPM_CC_Unseal,
)
from hwtpm.tpm2.types.context import TPMS_CONTEXT
from hwtpm.tpm2.types.handles import TPM_RH_NULL
from tests.support.managed import Managed, User
from tests.support.tpm2 import Machine, started
from tests.support.tpm2_keys import create_primary, keyed_hash, load, storage_template

PLACES = 3
OBJECTS = 8  # that an actor has at most
FIRST = 0x80FFFFFF


class Actor:
    """Does the same with the TPM that it shares and with one of its own, and compares."""

    def __init__(self, shared: User, own: Client, *, managed: bool) -> None:
        self._clients = shared, own
        self._managed = managed
        # What it has: a pair each, of the shared TPM and of its own.
        self.objects: list[tuple[int, int]] = []
        self.sequences: list[tuple[int, int]] = []
        self.sessions: list[tuple[Session, Session]] = []
        self.saved_objects: list[tuple[TPMS_CONTEXT, TPMS_CONTEXT]] = []
        self.saved_sessions: list[tuple[tuple[TPMS_CONTEXT, Session], ...]] = []

    def _both(self, do: Callable[[Client, Any], Any], what: Any = (None, None)) -> tuple[Any, Any] | None:
        """Return the results for both TPMs; None if both refuse, for the same reason."""
        results, codes = [], []
        for client, its in zip(self._clients, what, strict=True):
            try:
                results.append(do(client, its))
                codes.append(0)
            except TpmError as error:
                codes.append(error.rc)
        assert codes[0] == codes[1], [hex(code) for code in codes]
        return (results[0], results[1]) if results else None

    def _same(self, do: Callable[[Client, Any], Any], what: Any = (None, None)) -> None:
        found = self._both(do, what)
        assert found is None or found[0] == found[1]

    def _loaded(self, pair: tuple[int, int] | None, where: list[tuple[int, int]]) -> None:
        if pair is None:
            return
        taken = {handle for handle, _ in self.objects + self.sequences}
        free = next(FIRST - i for i in range(OBJECTS + 1) if FIRST - i not in taken)
        assert pair[0] == (free if self._managed else pair[1])
        where.append(pair)

    def _room(self) -> bool:
        return not self._managed or len(self.objects + self.sequences) < OBJECTS

    # The steps; *n* chooses among what there is.

    def load_key(self, n: int) -> None:
        if self._room():
            areas = keyed_hash(0x40000, secret=b"key %d" % n)
            self._loaded(self._both(lambda c, _: load(c, areas)), self.objects)

    def create(self, n: int) -> None:
        if self._room():
            self._loaded(self._both(lambda c, _: create_primary(c, storage_template())), self.objects)

    def read(self, n: int) -> None:
        if self.objects:
            self._same(lambda c, handle: c.run(ReadPublic(handle)).name, self.objects[n % len(self.objects)])

    def mac(self, n: int) -> None:
        if self.objects:
            self._same(lambda c, handle: c.run(HMAC(handle, b"%d" % n, TPM_ALG_NULL), Password()).out_hmac,
                       self.objects[n % len(self.objects)])

    def mac_in_session(self, n: int) -> None:
        if not self.objects or len(self.sessions) == SESSIONS:
            return
        sessions = self._both(lambda c, _: c.start_session())
        if sessions is None:
            return
        for session in sessions:
            session.attributes = TPMA_SESSION_CONTINUESESSION if n & 1 else 0
        pairs = zip(self.objects[n % len(self.objects)], sessions, strict=True)
        self._same(lambda c, it: c.run(HMAC(it[0], b"%d" % n, TPM_ALG_NULL), it[1]).out_hmac, tuple(pairs))
        # A session that was refused is still there.
        self._both(lambda c, session: c.run(FlushContext(session.handle)), sessions)

    def flush(self, n: int) -> None:
        where = self.objects if n & 1 else self.sequences
        if where:
            self._both(lambda c, handle: c.run(FlushContext(handle)), where.pop(n % len(where)))

    def save(self, n: int) -> None:
        if self.objects:
            chosen = self.objects[n % len(self.objects)]
            saved = self._both(lambda c, handle: c.run(ContextSave(handle)).context, chosen)
            assert saved is not None
            self.saved_objects.append(saved)

    def load(self, n: int) -> None:
        if self.saved_objects and self._room():
            chosen = self.saved_objects[n % len(self.saved_objects)]
            self._loaded(self._both(lambda c, context: c.run(ContextLoad(context)).loaded_handle, chosen),
                         self.objects)

    def start_sequence(self, n: int) -> None:
        if self._room():
            start = HashSequenceStart(b"", TPM_ALG_SHA256)
            self._loaded(self._both(lambda c, _: c.run(start).sequence_handle), self.sequences)

    def start_mac(self, n: int) -> None:
        """Key and sequence take two places at once."""
        if self.objects and self._room():
            chosen = self.objects[n % len(self.objects)]

            def start(client: Client, handle: int) -> int:
                return client.run(HMACStart(handle, b"", TPM_ALG_NULL), Password()).sequence_handle

            self._loaded(self._both(start, chosen), self.sequences)

    def update(self, n: int) -> None:
        if self.sequences:
            self._both(lambda c, handle: c.run(SequenceUpdate(handle, b"%d" % n), Password()),
                       self.sequences[n % len(self.sequences)])

    def complete(self, n: int) -> None:
        if self.sequences:
            self._same(lambda c, h: c.run(SequenceComplete(h, b"%d" % n, TPM_RH_NULL), Password()).result,
                       self.sequences.pop(n % len(self.sequences)))

    def start_session(self, n: int) -> None:
        if len(self.sessions) < SESSIONS:
            started = self._both(lambda c, _: c.start_session(TPM_SE_POLICY))
            if started is not None:
                self.sessions.append(started)

    def assert_policy(self, n: int) -> None:
        if self.sessions:
            code = (TPM_CC_Sign, TPM_CC_Unseal)[n & 1]
            chosen = self.sessions[n % len(self.sessions)]
            self._both(lambda c, session: c.run(PolicyCommandCode(session.handle, code)), chosen)
            self._same(lambda c, s: c.run(PolicyGetDigest(s.handle)).policy_digest, chosen)

    def save_session(self, n: int) -> None:
        if self.sessions:
            saved = self._both(lambda c, session: (c.run(ContextSave(session.handle)).context, session),
                               self.sessions.pop(n % len(self.sessions)))
            assert saved is not None
            self.saved_sessions.append(saved)

    def load_session(self, n: int) -> None:
        if self.saved_sessions and len(self.sessions) < SESSIONS:
            chosen = self.saved_sessions.pop(n % len(self.saved_sessions))
            loaded = self._both(lambda c, it: c.run(ContextLoad(it[0])).loaded_handle, chosen)
            if loaded is not None:
                assert loaded == tuple(session.handle for _, session in chosen)
                self.sessions.append((chosen[0][1], chosen[1][1]))

    def flush_session(self, n: int) -> None:
        if self.sessions:
            self._both(lambda c, session: c.run(FlushContext(session.handle)),
                       self.sessions.pop(n % len(self.sessions)))

    def look(self, n: int) -> None:
        shared = self._clients[0]
        assert isinstance(shared, User)
        assert shared.list("objects") == sorted(handle for handle, _ in self.objects + self.sequences)
        assert sorted(shared.list("loaded")) == sorted(session.handle for session, _ in self.sessions)

    def close(self) -> None:
        shared = self._clients[0]
        assert isinstance(shared, User)
        shared.close()


AREAS = [bytes.fromhex(area) for area in (
    "", "80ffffff", "02000000", "40000001", "40000007 00000009 40000009 0000 00 0000",
    "00000009 03000000 0000 00 0000",
)]
STEPS = [name for name, step in vars(Actor).items() if callable(step) and name[0] != "_" and name != "close"]


def execute_with(machine: Machine, places: int) -> Callable[[bytes], bytes]:
    """Return the way to a TPM with so many *places* of each kind."""

    def execute(command: bytes, /) -> bytes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state_objects, "MAX_LOADED_OBJECTS", places)
            patch.setattr(state_sessions, "MAX_LOADED_SESSIONS", places)
            return machine.execute(command)

    return execute


def check(steps: Iterable[tuple[int, str, int]]) -> None:
    machine = started()
    tpm = Managed(execute_with(machine, PLACES))
    actors = [Actor(tpm.raw, Client(execute_with(started(), PLACES), machine.entropy), managed=False)]
    actors += [Actor(tpm.open(), started().client, managed=True) for _ in range(3)]
    for number, step, n in steps:
        getattr(actors[number], step)(n)
    for actor in actors[1:]:
        actor.close()
    held = len(actors[0].objects + actors[0].sequences), len(actors[0].sessions)
    assert (len(tpm.raw.list("objects")), len(tpm.raw.list("loaded"))) == held
    assert len(tpm.raw.list("saved")) == sum(len(actor.saved_sessions) for actor in actors)


@pytest.mark.parametrize("seed", range(8))
def test_each_user_finds_what_it_would_find_on_a_tpm_of_its_own(seed: int) -> None:
    chance = random.Random(seed)
    check((chance.randrange(4), chance.choice(STEPS), chance.randrange(100)) for _ in range(400))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(STEPS), st.integers(0, 99)), max_size=60))
def test_so_it_is_with_few_steps(steps: list[tuple[int, str, int]]) -> None:
    """The same with steps that are made fewer and fewer once they fail."""
    check(steps)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=10), st.data())
def test_garbage_gets_one_answer_and_harms_nobody(pieces: list[bytes], data: st.DataObject) -> None:
    """A command is answered, or not executed with an errno; and a neighbour's key still works."""
    machine = started()
    tpm = Managed(execute_with(machine, PLACES))
    neighbour, space = tpm.open(), tpm.manager.open()
    handle = load(neighbour, keyed_hash(0x40000))
    before = neighbour.run(HMAC(handle, b"message", TPM_ALG_NULL), Password()).out_hmac
    for piece in pieces:
        code = data.draw(st.sampled_from(sorted(COMMANDS)))
        tag = data.draw(st.sampled_from([b"\x80\x01", b"\x80\x02", b"\x00\xc4"]))
        piece = data.draw(st.sampled_from(AREAS)) + piece
        command = tag + (10 + len(piece)).to_bytes(4, "big") + code.to_bytes(4, "big") + piece
        with contextlib.suppress(NotExecuted):
            response = space.execute(command)
            assert int.from_bytes(response[2:6], "big") == len(response)
    if neighbour.list("objects"):  # Nobody has cleared the TPM.
        assert neighbour.run(HMAC(handle, b"message", TPM_ALG_NULL), Password()).out_hmac == before

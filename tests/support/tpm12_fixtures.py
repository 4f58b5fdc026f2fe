"""Makes tests/vectors/state12-N.json, running12-N.json: `python -m tests.support.tpm12_fixtures KIND > FILE`.

Only for a new version of the format: the files of older versions stay as they are.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from hwtpm.client12 import Client, Session, Transport
from hwtpm.errors import TpmError
from hwtpm.tpm12.engine import PERMANENT_VERSION, RUNNING_VERSION
from hwtpm.tpm12.requests.audit import GetAuditDigest, SetOrdinalAuditStatus
from hwtpm.tpm12.requests.capability import GetCapability
from hwtpm.tpm12.requests.command import Command
from hwtpm.tpm12.requests.context import LoadContext, SaveContext
from hwtpm.tpm12.requests.counter import CreateCounter, IncrementCounter
from hwtpm.tpm12.requests.delegation import (
    DelegateCreateOwnerDelegation,
    DelegateLoadOwnerDelegation,
    DelegateManage,
    DelegateReadTable,
)
from hwtpm.tpm12.requests.hashing import SHA1Complete, SHA1Start, SHA1Update
from hwtpm.tpm12.requests.integrity import Extend, PcrRead
from hwtpm.tpm12.requests.nv import DirRead, DirWriteAuth, NVDefineSpace, NVReadValueAuth, NVWriteValueAuth
from hwtpm.tpm12.requests.sessions import SetOwnerPointer
from hwtpm.tpm12.requests.signing import Sign
from hwtpm.tpm12.requests.startup import SaveState, Startup
from hwtpm.tpm12.requests.storage import GetPubKey, KeyControlOwner, Seal, Unseal
from hwtpm.tpm12.requests.transport import EstablishTransport, EstablishTransportResponse
from hwtpm.tpm12.types import constants as c
from hwtpm.tpm12.types.base import SIZED, TPM_NONCE, TPM_SECRET, UINT32
from hwtpm.tpm12.types.codes import TPM_AUTHFAIL
from hwtpm.tpm12.types.delegate import TPM_DELEGATE_PUBLIC, TPM_DELEGATIONS
from hwtpm.tpm12.types.nv import TPM_NV_ATTRIBUTES, TPM_NV_DATA_PUBLIC
from hwtpm.tpm12.types.ordinals import TPM_DELEGATE_DirWriteAuth, TPM_ORD_PcrRead
from hwtpm.tpm12.types.pcr import TPM_PCR_INFO_SHORT, TPM_PCR_SELECTION
from hwtpm.tpm12.types.storage import TPM_STORED_DATA
from hwtpm.tpm12.types.transport import TPM_TRANSPORT_PUBLIC
from hwtpm.wire import Wire, encode
from tests.support.tpm2 import refused
from tests.support.tpm12 import KEY_AUTH, OWNER_AUTH, SRK_AUTH, Machine, once, owned, signing_key

INDEX = 0x1234
AUTH = b"something".ljust(20, b".")
MESSAGE = bytes(range(256)) * 4
_ANYWHERE = TPM_PCR_INFO_SHORT(TPM_PCR_SELECTION(bytes(3)), 0x1F, bytes(20))
_LOGGED = TPM_TRANSPORT_PUBLIC(c.TPM_TRANSPORT_LOG, 0, c.TPM_ES_NONE)


class Known(Wire):
    """What who uses the TPM of `make` knows: handles, secrets of sessions, and blobs."""

    kept: UINT32  # a key under the owner's control
    loaded: UINT32
    counter: UINT32
    session: UINT32
    nonce_even: TPM_NONCE
    shared_secret: TPM_SECRET
    transport: EstablishTransportResponse
    context: SIZED
    sealed: TPM_STORED_DATA


def define_area(client: Client) -> None:
    """There is an area at INDEX for who knows AUTH; an empty write locks it."""
    access = TPM_NV_ATTRIBUTES(c.TPM_NV_PER_AUTHREAD | c.TPM_NV_PER_AUTHWRITE | c.TPM_NV_PER_WRITE_STCLEAR)
    area = TPM_NV_DATA_PUBLIC(INDEX, _ANYWHERE, _ANYWHERE, access, 0, 0, 0, 16)
    session = client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    client.run(NVDefineSpace(area, session.encrypt(AUTH)), session)


def delegation(client: Client) -> bytes:
    """Return the blob that lets who knows AUTH write the DIR, of a new family."""
    family = client.run(DelegateManage(0, c.TPM_FAMILY_CREATE, b"F"), once(client.oiap(OWNER_AUTH))).ret_data
    number = int.from_bytes(family, "big")
    client.run(DelegateManage(number, c.TPM_FAMILY_ENABLE, b"\1"), once(client.oiap(OWNER_AUTH)))
    may = TPM_DELEGATIONS(c.TPM_DEL_OWNER_BITS, 1 << TPM_DELEGATE_DirWriteAuth, 0)
    public = TPM_DELEGATE_PUBLIC(ord("R"), _ANYWHERE, may, number, 0)
    session = client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    return client.run(DelegateCreateOwnerDelegation(0, public, session.encrypt(AUTH)), session).blob


def make(failures: int) -> tuple[Machine, Known]:
    """Return a running TPM with something of everything, and what there is to know about it.

    A launch is in progress, and so many wrong secrets have been tried.
    """
    m = owned(b"fixture")
    client, run = m.client, m.run

    def owner() -> Session:
        return once(client.oiap(OWNER_AUTH))

    kept, loaded = signing_key(client), signing_key(client)
    pubkey = run(GetPubKey(kept), once(client.oiap(KEY_AUTH))).pub_key
    run(KeyControlOwner(kept, pubkey, c.TPM_KEY_CONTROL_OWNER_EVICT, 1), owner())
    define_area(client)
    for data in (b"an area of NV...", b""):  # the second locks it until the next TPM_Startup(ST_CLEAR)
        run(NVWriteValueAuth(INDEX, 0, data), once(client.oiap(AUTH)))
    run(DirWriteAuth(0, b"dir".ljust(20, b".")), owner())
    session = client.osap(c.TPM_ET_OWNER, c.TPM_KH_OWNER, OWNER_AUTH)
    counter = run(CreateCounter(session.encrypt(AUTH), b"test"), session).count_id
    run(IncrementCounter(counter), once(client.oiap(AUTH)))
    run(DelegateLoadOwnerDelegation(1, delegation(client)), owner())
    run(SetOrdinalAuditStatus(TPM_ORD_PcrRead, 1), owner())
    run(SetOwnerPointer(c.TPM_ET_DEL_ROW, 1))
    session = client.osap(c.TPM_ET_KEYHANDLE, c.TPM_KH_SRK, SRK_AUTH)
    sealed = run(Seal(c.TPM_KH_SRK, session.encrypt(AUTH), b"", b"sealed data"), session).sealed_data
    session = client.osap(c.TPM_ET_KEYHANDLE, loaded, KEY_AUTH)
    saved = client.oiap(KEY_AUTH).handle
    context = run(SaveContext(saved, c.TPM_RT_AUTH, b"label".ljust(16, b"."))).context_blob
    for number in (0, 16, 23):
        run(Extend(number, bytes([number]) * 20))
    for _ in range(failures):
        m.clock.advance(1000 * m.tpm.lockout.seconds_left)
        with refused(TPM_AUTHFAIL):
            run(Sign(kept, bytes(20)), client.oiap(bytes(20)))
    opened = run(EstablishTransport(c.TPM_KH_TRANSPORT, _LOGGED, AUTH))
    run(SHA1Start())
    run(SHA1Update(MESSAGE[:320]))
    m.engine.hash_start()
    m.engine.hash_data(MESSAGE)
    m.clock.advance(1500)
    return m, Known(kept, loaded, counter, session.handle, session.nonce_even, session.key, opened, context,
                    sealed)


def ask(m: Machine, known: Known) -> list[str]:
    """Ask for what `make` left, and return the answers without what is random."""
    client = m.client
    answers = []

    def note(request: Command[Any], *sessions: Session, by: Any = client) -> None:
        try:
            answers.append(encode(by.run(request, *sessions)).hex())
        except TpmError as error:
            answers.append(f"0x{error.rc:03x}")
        m.clock.advance(1000 * m.tpm.lockout.seconds_left)

    note(GetCapability(c.TPM_CAP_DA_LOGIC, c.TPM_ET_KEYHANDLE.to_bytes(2, "big")))
    for resource in (c.TPM_RT_KEY, c.TPM_RT_AUTH, c.TPM_RT_TRANS, c.TPM_RT_CONTEXT, c.TPM_RT_COUNTER):
        note(GetCapability(c.TPM_CAP_HANDLE, resource.to_bytes(4, "big")))
    for flags in (c.TPM_CAP_FLAG_PERMANENT, c.TPM_CAP_FLAG_VOLATILE):
        note(GetCapability(c.TPM_CAP_FLAG, flags.to_bytes(4, "big")))
    note(GetCapability(c.TPM_CAP_NV_INDEX, INDEX.to_bytes(4, "big")))
    note(GetCapability(c.TPM_CAP_PROPERTY, c.TPM_CAP_PROP_ACTIVE_COUNTER.to_bytes(4, "big")))
    note(SHA1Complete(MESSAGE[320:352]))
    note(NVReadValueAuth(INDEX, 0, 16), once(client.oiap(AUTH)))
    note(NVWriteValueAuth(INDEX, 0, b"x"), once(client.oiap(AUTH)))
    note(DirRead(0))
    note(DirWriteAuth(0, bytes(20)), once(client.oiap(OWNER_AUTH)))  # the owner is whom the row is for
    note(DirWriteAuth(0, bytes(20)), once(client.oiap(AUTH)))
    note(DelegateReadTable())
    note(IncrementCounter(known.counter), once(client.oiap(AUTH)))
    note(Unseal(c.TPM_KH_SRK, known.sealed), once(client.oiap(SRK_AUTH)), once(client.oiap(AUTH)))
    note(Sign(known.kept, MESSAGE[:20]), once(client.oiap(KEY_AUTH)))
    note(LoadContext(0, 1, known.context))
    session = Session(known.session, known.nonce_even, known.shared_secret)
    session.next_odd = m.nonces(20)
    note(Sign(known.loaded, MESSAGE[:20]), session)
    opening = EstablishTransport(c.TPM_KH_TRANSPORT, _LOGGED, AUTH)
    wrapped = Transport(client, m.nonces, opening, AUTH, known.transport)
    note(PcrRead(0), by=wrapped)
    for number in (0, 16, 17, 23):
        note(PcrRead(number))
    note(GetAuditDigest(0))
    return answers


def finish(m: Machine) -> list[str]:
    """End what was in progress in a TPM that was running, and return the answers."""
    m.engine.hash_end()
    return [m.run(SHA1Complete(MESSAGE[320:352])).hash_value.hex()]


def _state() -> dict[str, Any]:
    made, known = make(8)
    made.run(SaveState())
    answers = {}
    for name, kind in (("state", c.TPM_ST_STATE), ("clear", c.TPM_ST_CLEAR)):
        machine = Machine(b"load", made.durable)
        machine.run(Startup(kind))
        answers[name] = ask(machine, known)
    return {"version": PERMANENT_VERSION, "snapshot": made.durable.hex(), "known": encode(known).hex(),
            "answers": answers}


def _running() -> dict[str, Any]:
    made, known = make(30)
    running = made.engine.snapshot_running()
    return {"version": RUNNING_VERSION, "snapshot": made.engine.snapshot().hex(), "running": running.hex(),
            "known": encode(known).hex(), "answers": finish(made) + ask(made, known)}


def main() -> None:
    """Write the fixture that is asked for, "state" or "running", to standard output."""
    json.dump({"state": _state, "running": _running}[sys.argv[1]](), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

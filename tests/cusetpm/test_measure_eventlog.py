"""The firmware's event logs: both formats, logs of real machines, and what a verifier must notice."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.measure import BadLog, DoesNotFit, tcgevents, tcglog, tcgverify
from cusetpm.measure.pcr import Given, Values, bank_of, extended, parse_value
from cusetpm.measure.tcglog import EV_EFI_HCRTM_EVENT, EV_NO_ACTION, STARTUP_LOCALITY, Event, Log
from cusetpm.measure.tpm import connect
from hwtpm.crypto import hashes, ids
from hwtpm.tpm2.requests.startup import Startup
from hwtpm.tpm2.types.constants import TPM_SU_CLEAR
from tests.support.tpm2 import make_engine

VECTORS = Path(__file__).parents[1] / "vectors" / "eventlog"
LOGS = sorted(path.stem for path in VECTORS.glob("*.bin"))
PCRS = json.loads((VECTORS / "pcrs.json").read_text())
BANKS = [ids.SHA1, ids.SHA256]


def log_of(name: str) -> Log:
    return tcglog.parse((VECTORS / f"{name}.bin").read_bytes())


def event(pcr: int, kind: int, data: bytes, of: bytes | None = None) -> Event:
    """Return an event whose digests are of *of*, or of its data."""
    return Event(pcr, kind, {alg: hashes.digest(alg, data if of is None else of) for alg in BANKS}, data)


def header(algs: list[int]) -> Event:
    data = struct.pack("<16sIBBBBI", tcglog.SPEC_ID_03, 0, 0, 2, 2, 2, len(algs))
    data += b"".join(struct.pack("<HH", alg, hashes.size(alg)) for alg in algs) + b"\0"
    return Event(0, EV_NO_ACTION, {ids.SHA1: bytes(20)}, data)


def agile(*events: Event) -> Log:
    """Return the log of *events* as it is read."""
    first = header(BANKS)
    return tcglog.parse(tcglog.encode(Log([first, *events], tcglog.parse_spec_id(first.data))))


def no_action(data: bytes) -> Event:
    return Event(0, EV_NO_ACTION, {alg: bytes(hashes.size(alg)) for alg in BANKS}, data)


def as_target(values: Values) -> Given:
    return Given(values, "the TPM")


@pytest.mark.parametrize("name", LOGS)
def test_a_real_log_is_written_as_it_was_read_and_each_digest_fits(name: str) -> None:
    log = log_of(name)
    assert tcglog.encode(log) == (VECTORS / f"{name}.bin").read_bytes()
    tcgverify.check_events(log)
    assert all(tcgevents.name(e.type).startswith("EV_") for e in log.events)


@pytest.mark.parametrize("name", PCRS)
def test_a_real_log_leads_to_the_pcrs_of_its_tpm(name: str) -> None:
    target = as_target(dict(parse_value(f"{p}={v}") for p, v in PCRS[name].items()))
    compared = tcgverify.verify(log_of(name), target)
    assert {index for _, index in compared} >= set(range(8))
    assert {alg for alg, _ in compared} == {ids.SHA1, ids.SHA256, ids.SHA384, ids.SHA512}


@pytest.mark.parametrize("name", LOGS)
def test_tpm2_eventlog_replays_to_the_same_pcrs(name: str) -> None:
    program = shutil.which("tpm2_eventlog")
    if program is None:
        pytest.skip("tpm2-tools is not installed")
    done = subprocess.run([program, VECTORS / f"{name}.bin"], capture_output=True, text=True, check=True)
    bank, theirs = 0, {}
    for line in done.stdout.partition("\npcrs:\n")[2].splitlines():
        if found := re.fullmatch(r"  (\w+):", line):
            bank = bank_of(found[1])
        elif found := re.fullmatch(r" +(\d+) *: 0x([0-9a-f]+)", line):
            theirs[bank, int(found[1])] = bytes.fromhex(found[2])
    assert theirs
    ours = tcglog.replay(log_of(name))
    # It leaves out PCR 0 where the log does not extend it.
    assert {pcr: value for pcr, value in ours.items() if pcr in theirs or any(value)} == theirs


# Replay

def test_ev_no_action_extends_nothing() -> None:
    log = agile(no_action(b"anything"), event(4, 5, b"Calling INT 19h"))
    assert set(tcglog.replay(log)) == {(alg, pcr) for alg in BANKS for pcr in (0, 4)}


@pytest.mark.parametrize(("extra", "first"), [
    ([], 0),
    ([no_action(STARTUP_LOCALITY + b"\0")], 0),
    ([no_action(STARTUP_LOCALITY + b"\x03")], 3),
    ([no_action(STARTUP_LOCALITY + b"\x04")], 4),
    ([no_action(STARTUP_LOCALITY)], 0),  # without the locality
])
def test_pcr_0_begins_with_the_startup_locality(extra: list[Event], first: int) -> None:
    version = event(0, tcgevents.EV_S_CRTM_VERSION, b"v1")
    values = tcglog.replay(agile(*extra, version))
    for alg in BANKS:
        begin = first.to_bytes(hashes.size(alg), "big")
        assert values[alg, 0] == extended(alg, begin, version.digests[alg])


def test_pcr_0_begins_with_4_before_an_h_crtm() -> None:
    crtm = event(0, EV_EFI_HCRTM_EVENT, b"HCRTM", b"the code")
    log = agile(no_action(STARTUP_LOCALITY + b"\x03"), crtm)
    assert tcglog.replay(log)[ids.SHA1, 0] == extended(ids.SHA1, bytes(19) + b"\4", crtm.digests[ids.SHA1])


def test_a_tpm_that_was_started_from_locality_3_has_that_in_pcr_0() -> None:
    machine = make_engine()
    machine.locality = 3
    machine.run(Startup(TPM_SU_CLEAR))
    values = connect(machine.execute, os.urandom).read(range(24))
    log = agile(no_action(STARTUP_LOCALITY + b"\x03"))
    assert tcgverify.verify(log, as_target(values)) == [(alg, 0) for alg in BANKS]


def test_banks_of_the_log_that_the_tpm_lacks_are_left_out() -> None:
    log = agile(event(1, 5, b"x"))
    sha256 = {pcr: v for pcr, v in tcglog.replay(log).items() if pcr[0] == ids.SHA256}
    assert tcgverify.verify(log, as_target(sha256)) == sorted(sha256)
    with pytest.raises(BadLog, match="nothing that the log, with sha1:0-1 sha256:0-1, can be compared with"):
        tcgverify.verify(log, as_target({(ids.SHA384, 1): bytes(48)}))


# What does not fit

@pytest.mark.parametrize(("kind", "data"), [
    (tcgevents.EV_SEPARATOR, bytes(4)),
    (tcgevents.EV_SEPARATOR, b"\xff" * 4),
    (tcgevents.EV_ACTION, b"Calling INT 19h"),
    (tcgevents.EV_EFI_ACTION, b"Exit Boot Services Invocation"),
    (tcgevents.EV_OMIT_BOOT_DEVICE_EVENTS, b"BOOT ATTEMPTS OMITTED"),
    (tcgevents.EV_S_CRTM_VERSION, b"1\0.\x000\0\0\0"),
    (tcgevents.EV_EFI_GPT_EVENT, b"EFI PART"),
    (tcgevents.EV_EFI_VARIABLE_DRIVER_CONFIG, bytes(32)),
    (tcgevents.EV_EFI_VARIABLE_BOOT, bytes(32)),
    (tcgevents.EV_EFI_VARIABLE_BOOT2, bytes(32)),
    (tcgevents.EV_EFI_VARIABLE_AUTHORITY, bytes(32)),
])
def test_the_first_event_whose_digest_is_not_of_its_data_is_named(kind: int, data: bytes) -> None:
    good = event(4, kind, data)
    tcgverify.check_events(agile(good))
    log = agile(good, event(5, kind, data, b"other"), event(6, kind, data, b"other"))
    with pytest.raises(DoesNotFit, match=rf"^event 2 \({tcgevents.name(kind)} in PCR 5.*its sha1 digest is"):
        tcgverify.check_events(log)


@pytest.mark.parametrize("kind", [1, 6, 7, 0xD, 0x80000003, 0x80000008, 0x80000009, 0x12345678])
def test_a_digest_of_what_is_not_in_the_log_is_not_judged(kind: int) -> None:
    tcgverify.check_events(agile(event(4, kind, b"data", b"other")))


def test_a_separator_after_an_error_has_the_digest_of_its_code() -> None:
    error = event(4, tcgevents.EV_SEPARATOR, b"what went wrong", b"\1\0\0\0")
    tcgverify.check_events(agile(error))
    assert tcgevents.describe(error) == "an error: what went wrong"


def test_a_boot_variable_may_be_measured_without_its_name() -> None:
    data = struct.pack("<16sQQ", bytes(16), 1, 3) + b"B\0" + b"xyz"
    tcgverify.check_events(agile(event(1, tcgevents.EV_EFI_VARIABLE_BOOT, data, b"xyz")))
    with pytest.raises(DoesNotFit):
        tcgverify.check_events(agile(event(1, tcgevents.EV_EFI_VARIABLE_BOOT2, data, b"xyz")))


def test_a_changed_digest_is_only_known_to_be_somewhere() -> None:
    log = agile(event(4, 0xD, b"loader", b"code"), event(4, 0xD, b"kernel", b"code"))
    values = tcglog.replay(agile(event(4, 0xD, b"loader", b"other"), log.events[2]))
    with pytest.raises(DoesNotFit, match=r"^sha1:4 would be .*an event was changed.*; sha256:4 do not fit"):
        tcgverify.verify(log, as_target(values))


def test_events_that_the_pcr_does_not_contain_are_named() -> None:
    events = [event(4, 0xD, b"loader"), event(5, 5, b"x"), no_action(b""), event(4, 0xD, b"kernel")]
    with pytest.raises(DoesNotFit, match=r"^event 4 \(EV_IPL in PCR 4: kernel\) is the first that is not in"):
        tcgverify.verify(agile(*events), as_target(tcglog.replay(agile(*events[:3]))))
    with pytest.raises(DoesNotFit, match=r"^event 1 \(EV_IPL in PCR 4: loader\) is the first that is not in"):
        tcgverify.verify(agile(*events), as_target({(ids.SHA1, 4): bytes(20)}))


def test_only_the_pcrs_asked_for_are_compared() -> None:
    log = agile(event(4, 5, b"x"), event(5, 5, b"x"))
    values = {**tcglog.replay(log), (ids.SHA1, 5): bytes(20)}
    with pytest.raises(DoesNotFit):
        tcgverify.verify(log, as_target(values))
    assert tcgverify.verify(log, as_target(values), {4}) == [(alg, 4) for alg in BANKS]


# Formats

_DIGESTS = st.fixed_dictionaries({alg: st.binary(min_size=hashes.size(alg), max_size=hashes.size(alg))
                                  for alg in BANKS})
_KINDS = st.sampled_from([*tcgevents.NAMES, 0x99])
_EVENTS = st.builds(Event, st.integers(0, 23), _KINDS, _DIGESTS, st.binary(min_size=1, max_size=100))


@given(st.lists(_EVENTS, max_size=5))
def test_a_crypto_agile_log_is_read_as_it_was_written(events: list[Event]) -> None:
    assert agile(*events).events[1:] == events


@given(st.lists(_EVENTS.map(lambda e: e._replace(digests={ids.SHA1: e.digests[ids.SHA1]})), min_size=1))
def test_a_log_of_sha1_digests_is_read_as_it_was_written(events: list[Event]) -> None:
    assert tcglog.parse(tcglog.encode(Log(events, None))) == Log(events, None)


@pytest.mark.parametrize(("kind", "data", "text"), [
    (tcgevents.EV_EFI_VARIABLE_BOOT, struct.pack("<16sQQ", bytes(16), 3, 1) + b"a\0\n\0b\0" + b"x",
     "a?b-00000000-0000-0000-0000-000000000000 = 78"),
    (tcgevents.EV_EFI_BOOT_SERVICES_APPLICATION, struct.pack("<QQQQ", 0, 77, 0, 0)
     + struct.pack("<BBH", 4, 4, 10) + b"\\\0e\0\n\0" + b"\x7f\xff\x04\0", "an image of 77 octets, \\e?"),
    (0xD, "grub_cmd: x".encode("utf-16-le"), "grub_cmd: x"),
    (0xD, b"two\nlines", b"two\nlines".hex()),
])
def test_what_people_read_is_one_line_without_control_characters(kind: int, data: bytes, text: str) -> None:
    assert tcgevents.describe(event(4, kind, data)) == text


@given(_EVENTS)
def test_every_event_can_be_described_in_one_line(one: Event) -> None:
    assert "\n" not in tcgverify.describe(1, one)
    tcgevents.fault(one)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(
    lambda tail: tcglog.encode(agile())[:-1] + tail) | st.tuples(
    st.sampled_from(LOGS), st.integers(0), st.integers(1, 255), st.integers(0)).map(lambda c: _damaged(*c)))
def test_garbage_is_a_log_or_a_clear_error(data: bytes) -> None:
    message = ""
    try:
        log = tcglog.parse(data)
        for number, one in enumerate(log.events):
            assert "\n" not in tcgverify.describe(number, one)
        tcgverify.verify(log, as_target({(ids.SHA1, 0): bytes(20)}))
    except (BadLog, DoesNotFit) as error:
        message = str(error)
    assert "\n" not in message


def _damaged(name: str, at: int, change: int, end: int) -> bytes:
    data = bytearray((VECTORS / f"{name}.bin").read_bytes())
    data[at % len(data)] ^= change
    return bytes(data[: len(data) - end % 100])


@pytest.mark.parametrize("tail", [bytes(200), b"\xff" * 200])
def test_unused_memory_after_the_log_is_no_event(tail: bytes) -> None:
    data = (VECTORS / "seabios.bin").read_bytes()
    assert tcglog.parse(data + tail) == tcglog.parse(data)


@pytest.mark.parametrize(("data", "why"), [
    (b"", "an empty log"),
    (b"\x7fELF" + bytes(60), "event 0, at octet 0: no PCR 1179403647"),
    ((VECTORS / "ovmf.bin").read_bytes()[:-1], "event 24, at octet .*: it ends within data of 40 octets"),
    (tcglog.encode(agile()) + struct.pack("<IIIH", 0, 4, 1, 0xC), "a digest of sha384: none of the log's"),
    (tcglog.encode(agile()) + struct.pack("<III", 0, 4, 3), "3 digests, and the log has 2 algorithms"),
    (tcglog.encode(Log([header([])], None)), "event 0, at octet 0: no algorithms"),
    (tcglog.encode(Log([header([4, 4])], None)), "algorithm sha1 twice"),
])
def test_what_is_wrong_with_a_log_is_said(data: bytes, why: str) -> None:
    with pytest.raises(BadLog, match=why):
        tcglog.parse(data)

"""IMA's lists: both formats of many templates as a kernel wrote them, and what a verifier must notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cusetpm.measure import BadLog, DoesNotFit, ima, imaverify
from cusetpm.measure.pcr import Given, bank_name, extended, parse_value
from hwtpm.crypto import hashes, ids

LISTS = json.loads((Path(__file__).parents[1] / "vectors" / "ima_linux.json").read_text())
CUSTOM = next(name for name in LISTS if "|" in name)


def real(template: str, form: str = "binary") -> tuple[ima.MeasurementList, Given]:
    """Return a kernel's list, and the PCRs of the TPM at that moment."""
    found = LISTS[template]
    data = bytes.fromhex(found["binary"]) if form == "binary" else found["ascii"].encode()
    return ima.parse(data), Given(dict(parse_value(f"{p}={v}") for p, v in found["pcrs"].items()), "the TPM")


def replayed(entries: list[ima.Entry], *algs: int) -> Given:
    """Return PCR 10 of a TPM that a kernel with all hashes extended with *entries*."""
    values = {}
    for alg in algs:
        value = bytes(hashes.size(alg))
        for entry in entries:
            covered = entry.hashed("little")
            assert covered is not None
            digest = b"\xff" * len(value) if entry.violation else hashes.digest(alg, covered)
            value = extended(alg, value, digest)
        values[alg, ima.PCR] = value
    return Given(values, "the TPM")


def made(*names: str, template: str = "ima-ng") -> list[ima.Entry]:
    return [ima.make(template, "sha256", hashes.digest(ids.SHA256, n.encode()), n.encode()) for n in names]


@pytest.mark.parametrize("template", LISTS)
def test_both_formats_of_a_kernel_say_the_same_and_are_made_again_octet_by_octet(template: str) -> None:
    binary, text = bytes.fromhex(LISTS[template]["binary"]), LISTS[template]["ascii"].encode()
    from_binary, from_ascii = ima.parse(binary), ima.parse(text)
    assert (from_binary.format, from_ascii.format) == ("binary", "ascii")
    assert [e._replace(text=b"") for e in from_ascii.entries] == from_binary.entries
    for found in from_binary, from_ascii:
        assert ima.binary_runtime_measurements(found) == binary
        assert ima.ascii_runtime_measurements(found) == text


@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize("template", LISTS)
def test_a_kernels_list_leads_to_pcr_10_in_every_bank(template: str, form: str) -> None:
    measurements, target = real(template, form)
    found = imaverify.verify(measurements, target)
    assert found.used == len(measurements.entries) == 39
    assert {bank_name(alg) for alg, _ in found.compared} == {"sha1", "sha256", "sha384", "sha512"}
    # That kernel has no SHA-384 and SHA-512 so early.
    assert {bank_name(alg) for alg, _ in found.padded} == {"sha384", "sha512"}
    assert found.boot_aggregate == ("sha1:0-7" if template == "ima" else "sha256:0-9")


def test_a_kernels_list_has_violations_and_names_with_odd_characters() -> None:
    measurements, _ = real("ima-ng")
    names = [entry.name for entry in measurements.entries]
    assert [e.name for e in measurements.entries if e.violation] == [b"/merged/root/viol"] * 2
    assert b"/merged/root/a_file" in names
    assert b"/merged/root/new\nline" in names
    assert imaverify.changed(measurements) == [b"/merged/root/viol"]


@pytest.mark.parametrize("template", ["ima-ng", CUSTOM])
@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_lists_of_a_big_endian_machine(template: str, form: str) -> None:
    entries = []
    for entry in real(template)[0].entries:
        # What is a number in the template data is one of that machine.
        names = ima.TEMPLATES.get(template, template).split("|")
        fields = tuple(f[::-1] if n in ("iuid", "igid", "imode") else f
                       for n, f in zip(names, entry.fields or (), strict=False))
        turned = entry._replace(fields=fields) if entry.template == template else entry
        covered = turned.hashed("big")
        assert covered is not None
        entries.append(turned if entry.violation
                       else turned._replace(digest=hashes.digest(ids.SHA1, covered)))
    big = ima.MeasurementList(entries, order="big")
    data = (ima.binary_runtime_measurements if form == "binary" else ima.ascii_runtime_measurements)(big)
    found = ima.parse(data)
    assert found.order == "big"
    assert [e._replace(text=b"") for e in found.entries] == entries
    imaverify.check_digests(found)


@pytest.mark.parametrize("alg", [ids.SHA256, ids.SHA384, ids.SHA512])
@pytest.mark.parametrize("form", ["binary", "ascii"])
def test_lists_of_newer_kernels_with_other_template_digests(alg: int, form: str) -> None:
    entries = []
    for entry in real("ima-ng")[0].entries:
        covered = entry.hashed("little")
        assert covered is not None
        digest = bytes(hashes.size(alg)) if entry.violation else hashes.digest(alg, covered)
        entries.append(entry._replace(digest=digest))
    other = ima.MeasurementList(entries, alg)
    data = (ima.binary_runtime_measurements if form == "binary" else ima.ascii_runtime_measurements)(other)
    found = ima.parse(data)
    assert found.alg == alg
    assert imaverify.verify(found, real("ima-ng")[1]).used == len(entries)


def test_the_template_of_an_entry_may_be_unknown_in_a_binary_list() -> None:
    measurements, _ = real("ima-ng")
    entries = [e._replace(template="mine") if e.template == "ima-ng" else e for e in measurements.entries]
    found = ima.parse(ima.binary_runtime_measurements(measurements._replace(entries=entries)))
    assert imaverify.verify(found, real("ima-ng")[1]).used == 39


def test_an_unknown_template_in_an_ascii_list_is_replayed_with_the_digests_it_has() -> None:
    text = LISTS["ima-ng"]["ascii"].encode().replace(b" ima-ng ", b" mine ")
    found, target = ima.parse(text), real("ima-ng")[1]
    assert ima.ascii_runtime_measurements(found) == text
    sha1 = Given({pcr: v for pcr, v in target.values.items() if pcr[0] == ids.SHA1}, "the TPM")
    assert imaverify.verify(found, sha1).used == 39
    with pytest.raises(BadLog, match=r"entry 1 has template mine, .* use the binary list"):
        imaverify.verify(found, target)


def test_kernels_before_5_8_extend_all_banks_with_padded_digests_also_for_violations() -> None:
    measurements, target = real("ima-ng")
    value = bytes(32)
    for entry in measurements.entries:
        digest = b"\xff" * 20 if entry.violation else entry.digest
        value = extended(ids.SHA256, value, digest.ljust(32, b"\0"))
    sha1 = target.values[ids.SHA1, 10]
    found = imaverify.verify(measurements, Given({(ids.SHA1, 10): sha1, (ids.SHA256, 10): value}, "the TPM"))
    assert found.padded == [(ids.SHA256, 10)]


# What does not fit

def test_the_first_entry_whose_template_digest_does_not_fit_is_named() -> None:
    measurements, target = real("ima-ng")
    entries = list(measurements.entries)
    for number in (7, 20):
        assert entries[number].fields is not None
        head, *rest = entries[number].fields
        entries[number] = entries[number]._replace(fields=(head[:-1] + b"x", *rest))
    with pytest.raises(DoesNotFit, match=r"^entry 8 \(/.*: its template digest is"):
        imaverify.verify(measurements._replace(entries=entries), target)


def test_an_entry_that_was_changed_with_its_digest_is_only_known_to_be_somewhere() -> None:
    entries = made("/a", "/b", "/c")
    target = replayed(entries, ids.SHA1, ids.SHA256)
    forged = [entries[0], *made("/B"), entries[2]]
    with pytest.raises(DoesNotFit, match="an entry was changed, added or left out, and each fits by itself"):
        imaverify.verify(ima.MeasurementList(forged), target)


def test_which_bank_fits_is_said_when_another_does_not() -> None:
    entries = made("/a", "/b")
    target = replayed(entries, ids.SHA1, ids.SHA256)
    values = {**target.values, (ids.SHA256, 10): bytes(31) + b"\1"}
    with pytest.raises(DoesNotFit, match=r"^sha256:10 would be .*; sha1:10 fits$"):
        imaverify.verify(ima.MeasurementList(entries), Given(values, "the TPM"))


def test_entries_beyond_what_the_pcr_contains_are_named_or_allowed() -> None:
    entries = made("/a", "/b", "/c", "/d")
    target = replayed(entries[:2], ids.SHA1, ids.SHA256)
    with pytest.raises(DoesNotFit, match=r"^entry 3 \(/c\) is the first that is not in sha1:10 of the TPM"):
        imaverify.verify(ima.MeasurementList(entries), target)
    found = imaverify.verify(ima.MeasurementList(entries), target, prefix=True)
    assert found.used == 2
    with pytest.raises(DoesNotFit, match=r"^entry 1 \(/a\) is the first that is not in"):
        imaverify.verify(ima.MeasurementList(entries), replayed([], ids.SHA1), prefix=True)


def test_banks_that_contain_different_numbers_of_entries_do_not_fit_together() -> None:
    entries = made("/a", "/b", "/c")
    values = {**replayed(entries, ids.SHA1).values, **replayed(entries[:2], ids.SHA256).values}
    with pytest.raises(DoesNotFit, match=r"^entry 3 \(/c\) is the first that is not in sha256:10"):
        imaverify.verify(ima.MeasurementList(entries), Given(values, "the TPM"), prefix=True)


def test_a_missing_entry_does_not_go_unnoticed() -> None:
    measurements, target = real("ima-ng")
    with pytest.raises(DoesNotFit, match="left out"):
        imaverify.verify(measurements._replace(entries=measurements.entries[:-1]), target)


def test_an_entry_made_a_violation_does_not_go_unnoticed() -> None:
    entries = made("/a", "/b")
    target = replayed(entries, ids.SHA1)
    with pytest.raises(DoesNotFit, match="sha1:10 would be"):
        imaverify.verify(ima.MeasurementList([entries[0], entries[1]._replace(digest=bytes(20))]), target)


def test_the_boot_aggregate_of_another_boot_is_named() -> None:
    measurements, target = real("ima-ng")
    values = {**target.values, (ids.SHA256, 3): bytes(32)}
    with pytest.raises(DoesNotFit, match=r"^entry 1 \(boot_aggregate\) is .* another boot"):
        imaverify.verify(measurements, Given(values, "the TPM"))


def test_entries_of_several_pcrs_are_compared_with_each() -> None:
    entries = [*made("/a"), made("/b")[0]._replace(pcr=11)]
    values = {(ids.SHA256, e.pcr): replayed([e], ids.SHA256).values[ids.SHA256, 10] for e in entries}
    assert imaverify.verify(ima.MeasurementList(entries), Given(values, "t")).compared == sorted(values)
    values[ids.SHA256, 11] = bytes(32)
    with pytest.raises(DoesNotFit, match=r"^entry 2 \(/b\) is the first that is not in"):
        imaverify.verify(ima.MeasurementList(entries), Given(values, "t"))


def test_nothing_to_compare_with_is_not_taken_for_a_fit() -> None:
    with pytest.raises(BadLog, match="nothing is known of PCR 10"):
        imaverify.verify(ima.MeasurementList(made("/a")), Given({(ids.SHA1, 9): bytes(20)}, "the TPM"))


@given(st.sampled_from(sorted(LISTS)), st.sampled_from(["binary", "ascii"]), st.data())
def test_no_octet_of_a_list_can_change_unnoticed(template: str, form: str, data: st.DataObject) -> None:
    octets = bytearray(bytes.fromhex(LISTS[template]["binary"]) if form == "binary"
                       else LISTS[template]["ascii"].encode())
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    target = real(template)[1]
    original, _ = real(template, form)
    try:
        changed = ima.parse(bytes(octets))
        imaverify.verify(changed, target)
    except (BadLog, DoesNotFit):
        return
    # A violation's data are in no digest, and neither is the name of a template.
    for one, other in zip(original.entries, changed.entries, strict=True):
        assert other.digest == one.digest
        assert other.violation or other.hashed("little") in (one.hashed("little"), None)


# Formats

_FIELDS = {
    "ima": st.tuples(st.binary(min_size=20, max_size=20), st.binary(max_size=255)),
    "ima-ng": st.tuples(st.binary(max_size=80), st.binary(max_size=80)),
    "something": st.lists(st.binary(max_size=40), max_size=5).map(tuple),
}
_ENTRIES = st.sampled_from(sorted(_FIELDS)).flatmap(lambda template: st.builds(
    ima.Entry, st.integers(1, 23), st.binary(min_size=20, max_size=20), st.just(template), _FIELDS[template],
    st.just(b"")))


@given(st.lists(_ENTRIES, min_size=1, max_size=5), st.sampled_from(["little", "big"]))
def test_a_binary_list_is_read_as_it_was_written(entries: list[ima.Entry], order: ima.Order) -> None:
    found = ima.parse(b"".join(ima.encode(entry, order) for entry in entries))
    assert (found.entries, found.order, found.alg) == (entries, order, ids.SHA1)


_NAME = st.binary(max_size=60).map(lambda name: name.translate(None, b"\0 \n"))


@given(st.lists(st.tuples(st.sampled_from(["ima", "ima-ng", "ima-sig"]), st.binary(min_size=20, max_size=20),
                          _NAME, st.binary(max_size=80)), min_size=1, max_size=5))
def test_an_ascii_list_is_read_as_it_was_written(
        made_of: list[tuple[str, bytes, bytes, bytes]]) -> None:
    entries = [ima.make(template, "sha1", *rest) for template, *rest in made_of]
    text = b"".join(ima.show(entry) for entry in entries)
    found = ima.parse(text)
    assert [e._replace(text=b"") for e in found.entries] == entries
    assert ima.ascii_runtime_measurements(found) == text


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"\x0a\0\0\0" + bytes(20) + tail)
       | st.binary(max_size=60).map(lambda tail: b"10 " + b"a" * 40 + b" ima-sig " + tail))
def test_garbage_is_a_list_or_a_clear_error(data: bytes) -> None:
    message = ""
    try:
        found = ima.parse(data)
        imaverify.check_digests(found)
        imaverify.verify(found, Given({(ids.SHA1, 10): bytes(20)}, "the TPM"))
    except (BadLog, DoesNotFit) as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize(("data", "why"), [
    (b"", "an empty list"),
    (b"\x7fELF garbage", "neither of IMA's list formats"),
    (b"10", "neither of IMA's list formats"),
    (ima.encode(made("/a")[0])[:-1], "entry 1, at octet 0: it ends within"),
    (ima.encode(made("/a")[0]) + b"\x0a\0\0\0", "entry 2, at octet"),
    (ima.show(made("/a")[0]).replace(b" sha256:", b" sha256:z"), "entry 1: not the fields of template"),
    (ima.show(made("/a")[0]) + ima.show(made("/a")[0]._replace(digest=bytes(32))), "different sizes"),
])
def test_what_is_wrong_with_a_list_is_said(data: bytes, why: str) -> None:
    with pytest.raises(BadLog, match=why):
        ima.parse(data)


# Entries of our own

def test_an_entry_is_what_a_kernel_makes_of_the_same_measurement() -> None:
    for template, signature in (("ima", b""), ("ima-ng", b"")):
        for entry in real(template)[0].entries:
            if entry.violation or entry.template != template:
                continue
            name, digest = entry.file_digest
            assert ima.make(template, name, digest, entry.name, signature) == entry


def test_names_are_shortened_as_the_kernel_does() -> None:
    long = b"/" + b"d" * 250 + b"/file name"
    assert ima.make("ima", "", bytes(20), long).name == b"file_name"
    assert ima.make("ima", "", bytes(20), b"x" * 300).name == b"x" * 255
    assert ima.make("ima-ng", "sha1", bytes(20), long).name == long.replace(b" ", b"_")

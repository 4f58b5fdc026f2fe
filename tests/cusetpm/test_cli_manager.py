"""`cusetpm manager` and `cusetpm saa`: what they print, for people and for programs, and what goes wrong.

The whole of it is told in docs/manager.md, which `tests/integration/test_story.py` runs.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hwtpm.crypto import pem
from tests.support.tpm12 import primes

CUSETPM = [sys.executable, "-I", "-m", "cusetpm"]
MODULUS = (primes(20)[0] * primes(20)[1]).to_bytes(256, "big")


def run(*arguments: str | Path, expect: int = 0, given: str = "") -> tuple[str, str]:
    done = subprocess.run([*CUSETPM, *map(str, arguments)], capture_output=True, text=True, check=False,
                          input=given, timeout=120)
    assert done.returncode == expect, (done.stdout, done.stderr)
    assert done.stderr.count("\n") <= (1 if expect else 0)
    return done.stdout, done.stderr


def ask(place: Path, *arguments: str | Path) -> Any:
    return json.loads(run("manager", "--state-dir", place, "--json", *arguments)[0])


def refused(place: Path, *arguments: str | Path) -> str:
    return run("manager", "--state-dir", place, *arguments, expect=125)[1]


@pytest.fixture(scope="module", params=["2.0", "1.2"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a group 1, a vTPM in it, and one in group 0."""
    made = tmp_path_factory.mktemp("manager") / "s"
    saa = made.parent / "saa.pub"
    saa.write_bytes(pem.rsa_public(MODULUS))
    run("manager", "--state-dir", made, "init", "--chip", request.param)
    for name in "one", "two":
        run("manager", "--state-dir", made, "group", "new", "--saa", saa, "--label", name, "--aik",
            made.parent / f"{name}.pem", "--evidence", made.parent / f"{name}.json")
    for index in "0", "1":
        run("manager", "--state-dir", made, "vtpm", "new", "--group", index)
    return made


def test_programs_get_json(place: Path) -> None:
    shown = ask(place, "show")
    assert (shown["groups"], shown["vtpms"], shown["pcrs"], shown["accepted"]) == (2, 2, "0-7", [])
    groups = ask(place, "group", "list")
    assert [(row["group"], row["state"], row["vtpms"]) for row in groups] == [(0, "open", 1), (1, "open", 1)]
    assert ask(place, "group", "show", "1") == groups[1]
    assert groups[1]["saa"] == MODULUS.hex()
    vtpms = ask(place, "vtpm", "list")
    assert [row["group"] for row in vtpms] == [0, 1]
    assert ask(place, "vtpm", "list", "--group", "1") == vtpms[1:]
    assert ask(place, "vtpm", "show", vtpms[1]["uuid"]) == vtpms[1]
    assert ask(place, "check") == []
    assert len(bytes.fromhex(ask(place, "platform")["digest"])) in (20, 32)


def test_people_get_tables(place: Path) -> None:
    lines = run("manager", "--state-dir", place, "vtpm", "list")[0].splitlines()
    assert lines[0].split() == ["UUID", "NAME", "GROUP", "STATE"]
    assert [line.split()[1:] for line in lines[1:]] == [["0", "new"], ["1", "new"]]


def test_a_vtpm_can_be_edited_and_deleted(place: Path) -> None:
    uuid = ask(place, "vtpm", "new", "--group", "1", "--uuid", "11111111-2222-4333-8444-555555555555")["uuid"]
    edited = ask(place, "vtpm", "edit", uuid, "--group", "0", "--admin", "--kernel", "ab" * 20)
    assert (edited["group"], edited["admin"], edited["kernel"]) == (0, True, "ab" * 20)
    edited = ask(place, "vtpm", "edit", uuid, "--no-admin", "--kernel", "none")
    assert (edited["group"], edited["admin"], edited["kernel"]) == (0, False, "")
    assert "is there" not in refused(place, "vtpm", "new", "--uuid", uuid)
    run("manager", "--state-dir", place, "vtpm", "delete", uuid, given="n\n", expect=130)
    run("manager", "--state-dir", place, "vtpm", "delete", "--yes", uuid)
    assert refused(place, "vtpm", "show", uuid) == f"cusetpm: there is no vTPM {uuid}\n"


def test_the_manager_answers_while_the_directory_is_used(place: Path) -> None:
    script = " ".join(f"'{word}'" for word in (*CUSETPM, "manager", "--state-dir", str(place), "--json"))
    output, _ = run("run", "--state-dir", place, *(
        ("--chip", "1.2") if ask(place, "show")["chip"] == "TPM 1.2" else ()), "--front-end", "socket", "--",
        "sh", "-c", f"{script} vtpm show tpm0 && {script} check && {script} backup '{place.parent}/kept'")
    assert '"state": "running"' in output
    assert (place.parent / "kept" / "manager.db").exists()
    assert not (place / "manager.at").exists()
    assert ask(place, "vtpm", "show", "tpm0")["state"] == "stopped"


def test_who_does_not_answer_is_named(place: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from cusetpm.statedir import "
         f"StateDirectory; s = StateDirectory(Path({str(place)!r})); print(flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        told = refused(place, "show")
        assert told == (f"cusetpm: {place}: in use by process {holder.pid}; wait for it, stop it, or take "
                        f"another directory; it does not answer questions\n")
        holder.communicate(timeout=30)


def test_a_quote_that_was_changed_is_told(place: Path) -> None:
    quote, aik = place.parent / "quote", place.parent / "two.pem"
    run("manager", "--state-dir", place, "quote", "--group", "1", "--nonce", "ab" * 20, "--evidence", quote)
    good, _ = run("manager", "--state-dir", place, "verify-quote", quote, "--aik", aik, "--nonce", "ab" * 20)
    assert "signed the values of PCRs" in good
    kept = json.loads(quote.read_text())
    quote.write_text(json.dumps(kept | {"response": "00" + kept["response"][2:]}))
    _, told = run("manager", "--state-dir", place, "verify-quote", quote, "--aik", aik, expect=1)
    assert "the signature is not of this key" in told
    quote.write_text("{}")
    _, told = run("manager", "--state-dir", place, "verify-quote", quote, "--aik", aik, expect=125)
    assert told == f"cusetpm: {quote}: not evidence of cusetpm manager\n"


@pytest.mark.parametrize(("arguments", "told"), [
    (("group", "show", "7"), "there is no group 7"),
    (("group", "delete", "--yes", "0"), "the first group cannot be deleted"),
    (("group", "new", "--saa", "/dev/null"), "/dev/null: not the public part of an RSA key of 2048 bits"),
    (("vtpm", "show", "nobody"), "there is no vTPM nobody"),
    (("vtpm", "new", "--group", "9"), "there is no group 9"),
    (("vtpm", "export", "nobody", "--to", "ab" * 32, "/dev/null"), "there is no vTPM nobody"),
    (("restore", "--yes", "/nonexistent"), "/nonexistent: not a backup of cusetpm"),
    (("quote", "--vtpm", "nobody", "--nonce", "ab" * 20, "--evidence", "/dev/null"),
     "there is no vTPM nobody"),
    (("init",), "there is a manager already"),
])
def test_what_cannot_be_done_is_one_line(place: Path, arguments: tuple[str, ...], told: str) -> None:
    done = subprocess.run([*CUSETPM, "manager", "--state-dir", place, *arguments], capture_output=True,
                          text=True, check=False, timeout=120)
    assert done.returncode == 125
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_directory_without_a_manager_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path, "show") == (
        f"cusetpm: {tmp_path}: not a state directory of cusetpm; cusetpm manager init makes one\n")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_setting_leaves_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path / "s", "init", "--pcrs", "24").startswith("cusetpm: PCRs have to be a list")
    assert refused(tmp_path / "s", "init", "--driver", f"swtpm:{tmp_path}/none").startswith(
        f"cusetpm: swtpm:{tmp_path}/none: No such file or directory")
    assert not (tmp_path / "s").exists()


def test_an_init_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    """There are settings, and a store that is not complete."""
    place = tmp_path / "s"
    run("manager", "--state-dir", place, "init", "--pcrs", "0-7,12")
    with closing(sqlite3.connect(place / "manager.db")) as db:
        db.executescript("DELETE FROM seal; DELETE FROM mark; DELETE FROM grp")
    run("manager", "--state-dir", place, "init", "--pcrs", "0-7,10")
    assert ask(place, "show")["pcrs"] == "0-7,10"
    assert "there is a manager already" in refused(place, "init")
    (place / "manager.db").write_bytes(b"x" * 9000)
    assert "there is a manager already" in refused(place, "init")


def test_a_chip_that_does_not_obey_leaves_nothing(tmp_path: Path) -> None:
    assert "the chip has an owner password" in refused(tmp_path / "s", "init", "--owner-auth", "text:wrong")
    assert not (tmp_path / "s").exists()


def test_a_list_is_as_the_manager_reads_it(tmp_path: Path) -> None:
    digest = "cd" * 32
    run("saa", "list", "--sequence", "3", "--platform", f"0-7:{digest}", "--kernel", "ab" * 20,
        tmp_path / "list")
    assert (tmp_path / "list").read_bytes() == (
        (3).to_bytes(8, "big") + bytes.fromhex(f"00000001{digest}00000001{'ab' * 20}"))
    assert (tmp_path / "list.pcrs").read_bytes() == bytes.fromhex("0003ff0000")


@pytest.mark.parametrize("arguments", [
    ("--platform", "0-7"), ("--platform", "0-7:ab"), ("--platform", "24:" + "ab" * 32),
    ("--platform", "0:" + "ab" * 32, "--platform", "0:" + "ab" * 20),
    ("--platform", "0:" + "ab" * 32, "--kernel", "ab"), ("--platform", "0:" + "ab" * 32) * 6])
def test_a_list_that_cannot_be_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    run("saa", "list", "--sequence", "1", *arguments, tmp_path / "list", expect=2)
    assert not (tmp_path / "list").exists()


def test_the_secret_of_an_exchange_is_never_written_over(tmp_path: Path) -> None:
    run("saa", "exchange", "--secret", tmp_path / "secret", tmp_path / "half")
    kept = (tmp_path / "secret").read_bytes()
    _, told = run("saa", "exchange", "--secret", tmp_path / "secret", tmp_path / "half", expect=125)
    assert told == f"cusetpm: {tmp_path}/secret: File exists\n"
    assert (tmp_path / "secret").read_bytes() == kept
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600

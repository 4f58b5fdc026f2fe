"""Names and nodes of devices; what the kernel makes of them is seen in a virtual machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cusetpm import mounts
from cusetpm.devices import node
from cusetpm.devices.node import Node, free_number


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories in place of those where the names of devices are: dev, cuse, tpm and misc."""
    made = [tmp_path / name for name in ("dev", "cuse", "tpm", "misc")]
    for directory in made[:-1]:  # The last one is missing, as /sys/class/cuse often is.
        directory.mkdir()
    monkeypatch.setattr(node, "_DEV", str(made[0]))
    monkeypatch.setattr(node, "_CLASSES", str(tmp_path))
    monkeypatch.setattr(node, "_IN_USE", tuple(map(str, made)))
    return made


def test_the_first_number_of_which_no_device_has_the_name_is_free(places: list[Path]) -> None:
    assert free_number() == 0
    (places[0] / "tpm0").touch()
    (places[1] / "tpm1").symlink_to("nowhere")
    (places[2] / "tpmrm2").mkdir()
    assert free_number() == 3


def test_all_names_taken_is_an_error(places: list[Path]) -> None:
    for number in range(node.MAX_DEVICES):
        (places[0] / f"tpm{number}").touch()
    with pytest.raises(OSError, match="all names from tpm0 to tpm255 are taken"):
        free_number()


def test_a_device_that_the_kernel_has_is_ready_when_its_node_is(
        places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel makes the node after it shows the device, where /dev is its own file system."""
    monkeypatch.setattr(mounts, "kind", lambda path: "devtmpfs" if path == str(places[0]) else "")
    waiting = Node("tpm0", "tpm")
    assert not waiting.is_ready()
    (places[2] / "tpm0").mkdir()
    (places[2] / "tpm0" / "dev").write_text("10:224\n")
    assert not waiting.is_ready()
    (places[0] / "tpm0").touch()
    assert waiting.is_ready()


def test_where_the_kernel_makes_no_nodes_none_is_waited_for(places: list[Path]) -> None:
    (places[2] / "tpm0").mkdir()
    (places[2] / "tpm0" / "dev").write_text("10:224\n")
    assert Node("tpm0", "tpm").is_ready()


def test_a_device_that_the_kernel_does_not_have_is_an_error(places: list[Path]) -> None:
    with pytest.raises(FileExistsError, match="the kernel refused to make the device"):
        Node("tpm0", "tpm").find()


def test_a_name_that_is_somebody_elses_is_an_error(places: list[Path]) -> None:
    (places[2] / "tpm0").mkdir()
    (places[2] / "tpm0" / "dev").write_text("10:224\n")
    (places[0] / "tpm0").touch()
    with pytest.raises(FileExistsError, match="something else has this name"):
        Node("tpm0", "tpm").find()


def test_the_kind_of_what_is_mounted(tmp_path: Path) -> None:
    assert mounts.kind("/proc") == "proc"
    assert mounts.kind(tmp_path) == ""

"""The store: tree, access, quotas, transactions, watches."""

from __future__ import annotations

import errno
import threading

import pytest

from cusetpm.ring.xenstore import StoreError, XenStore


def code(call) -> int:
    with pytest.raises(StoreError) as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.fixture
def store():
    return XenStore()


@pytest.fixture
def root(store):
    return store.client(0)


@pytest.fixture
def guest(store, root):
    """Domain 5 with a directory of its own, as the toolstack makes it."""
    root.write("/local/domain/5/device", "")
    root.set_perms("/local/domain/5", ((0, "n"), (5, "r")))
    root.set_perms("/local/domain/5/device", ((5, "n"), (0, "r")))
    return store.client(5)


def test_write_makes_the_nodes_above(root):
    root.write("/a/b/c", "1")
    assert root.read("/a/b/c") == "1"
    assert root.read("/a/b") == ""
    assert root.directory("/a") == ["b"]
    assert root.directory("/") == ["a"]


def test_rm_takes_everything_below(root):
    root.write("/a/b/c", "1")
    root.write("/ab", "2")
    root.rm("/a")
    assert code(lambda: root.read("/a/b/c")) == errno.ENOENT
    assert root.directory("/") == ["ab"]
    assert code(lambda: root.rm("/a")) == errno.ENOENT
    assert code(lambda: root.rm("/")) == errno.EINVAL


def test_mkdir_keeps_what_is_there(root):
    root.write("/a", "1")
    root.mkdir("/a")
    root.mkdir("/b/c")
    assert root.read("/a") == "1"
    assert root.directory("/b") == ["c"]


@pytest.mark.parametrize("path", ["", "/a/", "//a", "/a b", "/a/../é", "/" + "a" * 3072])
def test_a_bad_path_is_refused(root, path):
    assert code(lambda: root.write(path, "")) == errno.EINVAL


def test_a_relative_path_begins_at_the_domain(guest, root):
    guest.write("device/x", "1")
    assert root.read("/local/domain/5/device/x") == "1"


def test_a_guest_writes_only_what_it_owns(guest, root):
    root.write("/local/domain/6/device", "")
    root.write("/local/domain/5/name", "five")
    for path in ("/x", "/local/domain/6/device", "/local/domain/6/device/x", "name", "other"):
        assert code(lambda path=path: guest.write(path, "1")) == errno.EACCES
        assert code(lambda path=path: guest.rm(path)) in (errno.EACCES, errno.ENOENT)
    assert root.read("/local/domain/5/name") == "five"


def test_a_guest_reads_only_what_it_was_allowed_to(guest, root):
    root.write("/secret", "1")
    root.set_perms("/secret", ((0, "n"),))
    assert code(lambda: guest.read("/secret")) == errno.EACCES
    assert guest.get("/secret") is None
    root.set_perms("/secret", ((0, "n"), (5, "r")))
    assert guest.read("/secret") == "1"
    assert code(lambda: guest.write("/secret", "2")) == errno.EACCES
    root.set_perms("/secret", ((0, "n"), (5, "w")))
    guest.write("/secret", "2")
    assert root.read("/secret") == "2"


def test_new_nodes_inherit_access_and_belong_to_their_maker(guest, root, store):
    root.set_perms("/local/domain/5/device", ((0, "n"), (5, "w"), (7, "r")))
    guest.write("device/x", "1")
    assert store.client(7).read("/local/domain/5/device/x") == "1"
    assert code(lambda: store.client(7).write("/local/domain/5/device/x", "2")) == errno.EACCES
    assert code(lambda: store.client(8).read("/local/domain/5/device/x")) == errno.EACCES
    guest.set_perms("device/x", ((5, "n"),))
    assert code(lambda: store.client(7).read("/local/domain/5/device/x")) == errno.EACCES


def test_a_guest_cannot_give_nodes_away_or_take_them(guest, root):
    guest.write("device/x", "1")
    assert code(lambda: guest.set_perms("device/x", ((6, "n"),))) == errno.EACCES
    root.write("/shared", "1")
    root.set_perms("/shared", ((0, "b"),))
    assert code(lambda: guest.set_perms("/shared", ((5, "n"),))) == errno.EACCES


def test_quotas_hold_for_guests(guest):
    assert code(lambda: guest.write("device/x", "x" * 2049)) == errno.E2BIG

    def fill():
        for number in range(2000):
            guest.write(f"device/{number}", "")

    assert code(fill) == errno.ENOSPC
    guest.rm("device/0")
    guest.write("device/again", "")
    assert code(lambda: [guest.watch("device", print) for _ in range(129)]) == errno.E2BIG
    assert code(lambda: [guest.begin() for _ in range(11)]) == errno.ENOSPC


def test_a_transaction_is_visible_at_its_end_only(root):
    tx = root.begin()
    root.write("/a", "1", tx)
    root.write("/b", "2", tx)
    assert root.read("/a", tx) == "1"
    assert root.get("/a") is None
    root.end(tx)
    assert (root.read("/a"), root.read("/b")) == ("1", "2")
    assert code(lambda: root.write("/a", "2", tx)) == errno.EINVAL


def test_an_aborted_transaction_changes_nothing(root):
    root.write("/a/b", "1")
    tx = root.begin()
    root.rm("/a", tx)
    assert root.get("/a/b", tx) is None
    root.end(tx, commit=False)
    assert root.read("/a/b") == "1"


def test_a_conflict_is_eagain_and_changes_nothing(root):
    root.write("/a", "1")
    tx = root.begin()
    root.write("/b", root.read("/a", tx), tx)
    root.write("/a", "2")
    assert code(lambda: root.end(tx)) == errno.EAGAIN
    assert root.get("/b") is None


def test_changes_elsewhere_are_no_conflict(root):
    root.write("/a/x", "1")
    root.write("/b/x", "1")
    tx = root.begin()
    root.write("/a/x", "2", tx)
    root.write("/b/x", "2")
    root.end(tx)
    assert root.read("/a/x") == "2"


def test_transact_runs_again_after_a_conflict(root):
    root.write("/n", "0")
    runs = []

    def work(tx):
        value = int(root.read("/n", tx))
        if not runs:
            root.write("/n", "10")
        runs.append(value)
        root.write("/n", str(value + 1), tx)

    root.transact(work)
    assert runs == [0, 10]
    assert root.read("/n") == "11"


def test_a_watch_fires_once_at_once_and_then_for_the_path_and_below(root):
    seen = []
    root.write("/a/b", "1")
    watch = root.watch("/a", seen.append)
    assert seen == ["/a"]
    root.write("/a", "1")
    root.write("/a/b", "2")
    root.write("/a/c/d", "3")
    root.write("/ab", "4")
    assert seen == ["/a", "/a", "/a/b", "/a/c/d"]
    root.unwatch(watch)
    root.write("/a", "2")
    assert len(seen) == 4


def test_removing_a_node_fires_the_watches_above_and_below(root):
    above, below = [], []
    root.write("/a/b/c", "1")
    root.watch("/a", above.append)
    root.watch("/a/b/c", below.append)
    root.rm("/a/b")
    assert above == ["/a", "/a/b"]
    assert below == ["/a/b/c", "/a/b/c"]


def test_a_transaction_fires_its_watches_when_it_is_committed(root):
    seen = []
    root.watch("/a", lambda path: seen.append((path, root.get("/a/z"))))
    seen.clear()

    def work(tx):
        root.write("/a/y", "1", tx)
        root.write("/a/z", "2", tx)
        assert seen == []

    root.transact(work)
    assert seen == [("/a/y", "2"), ("/a/z", "2")]


def test_a_watch_does_not_tell_what_may_not_be_read(guest, root):
    seen = []
    guest.watch("/secret", seen.append)
    seen.clear()
    root.mkdir("/secret")
    root.set_perms("/secret", ((0, "n"),))
    seen.clear()
    root.write("/secret", "1")
    root.rm("/secret")
    assert seen == []


def test_what_a_callback_writes_is_delivered_after_it(root):
    log = []

    def on_a(_path):
        log.append("a in")
        root.write("/b", "1")
        log.append("a out")

    root.watch("/b", lambda _path: log.append("b"))
    root.watch("/a", on_a)
    assert log == ["b", "a in", "a out", "b"]


def test_a_failing_callback_does_not_keep_events_from_others(root, caplog):
    seen = []
    root.watch("/a", lambda _path: 1 // 0)
    root.watch("/a", seen.append)
    root.write("/a", "1")
    assert seen == ["/a", "/a"]
    assert "ZeroDivisionError" in caplog.text


def test_concurrent_transactions_lose_no_update(root):
    root.write("/n", "0")
    fired = []
    root.watch("/n", fired.append)

    def add():
        for _ in range(50):
            root.transact(lambda tx: root.write("/n", str(int(root.read("/n", tx)) + 1), tx))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert root.read("/n") == "200"
    assert len(fired) == 201

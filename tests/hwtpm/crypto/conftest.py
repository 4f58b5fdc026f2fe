"""The library that hashlib uses, as it is and as it might be elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hwtpm.crypto import libcrypto


class _Other:
    """What a library might be: without the functions, or with others under their names."""

    def __init__(self, *, has: bool) -> None:
        self._has = has

    def __getitem__(self, name: str):  # type: ignore[no-untyped-def]
        if not self._has:
            raise AttributeError(name)

        def function(*_: object) -> int:
            return 1

        return function


@pytest.fixture(params=[_Other(has=False), _Other(has=True), OSError("no such file")],
                ids=["without the functions", "with other functions", "not a file"])
def strange_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """hashlib has a library that is not OpenSSL as we know it."""
    import ctypes

    def load(path: str) -> object:
        if isinstance(request.param, OSError):
            raise request.param
        return request.param

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(ctypes, "PyDLL", load)
    libcrypto._library.cache_clear()
    yield
    libcrypto._library.cache_clear()


@pytest.fixture
def openssl() -> None:
    """hashlib has OpenSSL, and it can be reached."""
    _hashlib = pytest.importorskip("_hashlib", reason="this Python has no OpenSSL")
    if not hasattr(_hashlib, "__file__"):
        pytest.skip("OpenSSL is linked into this Python")

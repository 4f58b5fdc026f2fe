"""The OpenSSL that hashlib uses, where it can be reached: functions of it that no package offers.

It is found through hashlib's own extension module, so that no name of a library is guessed.  Whoever uses its
functions looks first whether they give a known answer, and has another way: Python may have its hashes from
another library, or from one that is linked into it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ctypes

Function = Callable[..., int]
"""Pointers are numbers, and None where they are null."""

# The letters of a signature, and their types in ctypes.
_TYPES: Final = {"i": "c_int", "u": "c_ulong", "z": "c_size_t", "p": "c_void_p", "b": "c_char_p",
                 "-": ""}


class Unreachable(Exception):
    """There is no such library, or it does not have a function, or a function does not do what it should."""


@cache
def _library(name: str) -> ctypes.CDLL:
    """Return the library as *name* of ctypes calls it."""
    try:
        import _hashlib
        import ctypes

        loader: type[ctypes.CDLL] = getattr(ctypes, name)
        return loader(_hashlib.__file__)
    except (ImportError, OSError, AttributeError):  # no OpenSSL, or hashlib's module is not a file
        raise Unreachable("hashlib has no OpenSSL of its own") from None


def function(name: str, signature: str, *, long: bool = False) -> Function:
    """Return a function of the library; Unreachable when there is none of this name.

    *signature* is a letter for the result and one for each argument: i for int, u for unsigned long, z for
    size_t, p for a pointer, b for octets, and - for no result.  A *long* one runs without the interpreter
    lock; others keep it, since to get it back takes longer than they do where many threads want it.
    """
    import ctypes

    library = _library("CDLL" if long else "PyDLL")
    try:
        found = library[name]
    except AttributeError:
        raise Unreachable(f"{name} is not in the library") from None
    result, *arguments = [_TYPES[letter] for letter in signature]
    found.restype = getattr(ctypes, result) if result else None
    found.argtypes = [getattr(ctypes, argument) for argument in arguments]
    return found


def checked(result: int | None) -> int:
    """Return the *result* of a function; MemoryError if it failed, and no error left in the library's queue.

    That is the only failure left to those who give a function what it can compute with.
    """
    if not result:
        function("ERR_clear_error", "-")()
        raise MemoryError("OpenSSL does not compute")
    return result


def buffer(size: int) -> ctypes.Array[ctypes.c_char]:
    """Return *size* octets, all zero, for a function to write to."""
    import ctypes

    return ctypes.create_string_buffer(size)

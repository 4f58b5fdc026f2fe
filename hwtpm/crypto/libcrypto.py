"""The compression functions of the OpenSSL that hashlib uses, where it lets them be reached.

OpenSSL still exports the functions of the time before EVP (SHA256_Update and its kin), whose contexts begin
with the chaining value as words of the machine.  They are found through hashlib's own extension module, so
that no name of a library is guessed, and are used only after they have given the same digest as hashlib.
Where there are none (another library, or one that is linked in), `compression` says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import Final

from hwtpm.crypto import hashes, ids

Compression = Callable[[bytes, bytes], bytes]

_CONTEXT: Final = 512  # octets, more than twice the largest context
_NAMES: Final = {ids.SHA1: ("SHA1", "5I"), ids.SHA256: ("SHA256", "8I"),
                 ids.SHA384: ("SHA512", "8Q"), ids.SHA512: ("SHA512", "8Q")}


@cache
def compression(alg: int) -> Compression | None:
    """Return the function that takes a chaining value over whole blocks, None if there is none for *alg*."""
    if alg not in _NAMES:
        return None
    name, words = _NAMES[alg]
    try:
        import _hashlib
        import ctypes

        library = ctypes.CDLL(_hashlib.__file__)
        init, update = library[f"{name}_Init"], library[f"{name}_Update"]
    except (ImportError, OSError, AttributeError):  # no OpenSSL, not from a file, or without these functions
        return None
    init.argtypes = [ctypes.c_char_p]
    update.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    theirs, ours = Struct(f"={words}"), Struct(f">{words}")

    def compress(chaining: bytes, blocks: bytes) -> bytes:
        context = ctypes.create_string_buffer(_CONTEXT)
        init(context)
        theirs.pack_into(context, 0, *ours.unpack(chaining))
        update(context, blocks, len(blocks))
        return ours.pack(*theirs.unpack_from(context))

    # One block of "abc" and its padding, from what the library starts with.
    context = ctypes.create_string_buffer(_CONTEXT)
    init(context)
    block = b"abc\x80".ljust(hashes.block_size(alg) - 1, b"\0") + bytes([len(b"abc") * 8])
    found = compress(ours.pack(*theirs.unpack_from(context)), block)
    return compress if found == hashlib.new(name, b"abc").digest() else None

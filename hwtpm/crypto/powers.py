"""Powers modulo an odd number, for the search for primes: OpenSSL's where it can be reached, else gmpy2's.

Both give the same numbers, and compute without the interpreter lock.  Neither hides the exponent: for secret
ones there is `modular`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Final

from hwtpm.crypto import libcrypto
from hwtpm.crypto.libcrypto import checked

_PAIR_BITS: Final = 1024
"""The one size for which every OpenSSL that takes two powers at once can do it with wide instructions.

Processors with AVX-512 IFMA then need the time of one.  On others it is one after the other.
"""


class Powers(ABC):
    """Arithmetic modulo odd numbers above 2."""

    @abstractmethod
    def power(self, base: int, exponent: int, modulus: int) -> int:
        """Return base**exponent mod modulus; *base* is less than the modulus, *exponent* not negative."""

    @abstractmethod
    def fermat(self, numbers: Sequence[int]) -> list[int]:
        """Return 2**(n-1) mod n for each of the numbers, which is 1 if n is prime, and hardly ever if not.

        Two numbers at once may take less time than one after the other.
        """


class Gmpy2(Powers):
    """Powers by GMP."""

    def __init__(self) -> None:
        from gmpy2 import get_context, powmod

        self._context, self._powmod = get_context, powmod

    def power(self, base: int, exponent: int, modulus: int) -> int:
        self._context().allow_release_gil = True  # each thread has a context of its own
        return int(self._powmod(base, exponent, modulus))

    def fermat(self, numbers: Sequence[int]) -> list[int]:
        return [self.power(2, n - 1, n) for n in numbers]


class Libcrypto(Powers):
    """Powers by the library that hashlib uses.  Nothing is kept from one to the next."""

    def __init__(self) -> None:
        """Find the functions; raises `libcrypto.Unreachable`."""
        find = libcrypto.function
        self._number, self._wipe = find("BN_bin2bn", "pbip"), find("BN_clear_free", "-p")
        self._context, self._drop = find("BN_CTX_new", "p"), find("BN_CTX_free", "-p")
        self._octets = find("BN_bn2binpad", "ipbi")
        self._power = find("BN_mod_exp_mont", "ipppppp", long=True)
        self._word = find("BN_mod_exp_mont_word", "ipupppp", long=True)
        self._pair: libcrypto.Function | None = None
        with suppress(libcrypto.Unreachable):  # OpenSSL has it from version 3.0 on
            self._pair = find("BN_mod_exp_mont_consttime_x2", "ippppppppppp", long=True)

    def power(self, base: int, exponent: int, modulus: int) -> int:
        with self._numbers(0, base, exponent, modulus) as (context, r, a, p, m):
            checked(self._power(r, a, p, m, context, None))
            return self._value(r, modulus)

    def fermat(self, numbers: Sequence[int]) -> list[int]:
        if self._pair is not None and [n.bit_length() for n in numbers] == [_PAIR_BITS, _PAIR_BITS]:
            return self._fermat_pair(*numbers)
        found = []
        for n in numbers:
            with self._numbers(0, n - 1, n) as (context, r, p, m):
                checked(self._word(r, 2, p, m, context, None))
                found.append(self._value(r, n))
        return found

    def _fermat_pair(self, n1: int, n2: int) -> list[int]:
        assert self._pair is not None
        # The exponents are even, so the bases may be -2, which is as long as the numbers: a shorter one would
        # keep the library from the wide instructions.
        with self._numbers(0, n1 - 2, n1 - 1, n1, 0, n2 - 2, n2 - 1, n2) as (
                context, r1, a1, p1, m1, r2, a2, p2, m2):
            checked(self._pair(r1, a1, p1, m1, None, r2, a2, p2, m2, None, context))
            return [self._value(r1, n1), self._value(r2, n2)]

    @contextmanager
    def _numbers(self, *values: int) -> Iterator[list[int]]:
        """Give a context and the library's numbers with these values; all are wiped and freed at the end."""
        made: list[int] = []
        context = checked(self._context())
        try:
            for value in values:
                octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
                made.append(checked(self._number(octets, len(octets), None)))
            yield [context, *made]
        finally:
            for number in made:
                self._wipe(number)
            self._drop(context)

    def _value(self, number: int, modulus: int) -> int:
        size = (modulus.bit_length() + 7) // 8
        octets = libcrypto.buffer(size)
        self._octets(number, octets, size)
        return int.from_bytes(octets.raw, "big")


@cache
def fastest() -> Powers:
    """Return OpenSSL's powers if they are right where the answer is known, else gmpy2's."""
    with suppress(libcrypto.Unreachable, MemoryError):
        found = Libcrypto()
        if _right(found):
            return found
    return Gmpy2()


def _right(powers: Powers) -> bool:
    """Tell whether *powers* gives what Fermat's little theorem says of two primes and a composite number."""
    prime, longer = 2**521 - 1, 2**1024 - 105
    base = (longer - 1) // 7
    return (powers.power(base, longer, longer) == base
            and powers.power(base % prime, prime - 1, prime) == 1
            and powers.fermat([prime]) == [1]
            and [r == 1 for r in powers.fermat([longer, longer - 2])] == [True, False]
            and [r == 1 for r in powers.fermat([longer - 2, longer])] == [False, True])

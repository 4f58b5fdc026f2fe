"""Modular powers and the search for primes, with OpenSSL and with gmpy2."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto import libcrypto, powers, primes
from hwtpm.crypto.derivation import Derivation
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.errors import Cancelled
from tests.support.leaks import growth

SIZES = (256, 512, 768, 1024, 1536, 2048)
SEED = 20261128
PRIMES = {521: 2**521 - 1, 607: 2**607 - 1, 1024: 2**1024 - 105, 1279: 2**1279 - 1, 2203: 2**2203 - 1}


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def library() -> powers.Libcrypto:
    found = powers.fastest()
    if not isinstance(found, powers.Libcrypto):
        pytest.skip("hashlib's OpenSSL cannot be reached")
    return found


@pytest.fixture(params=["OpenSSL", "gmpy2"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> powers.Powers:
    """The search has its powers from OpenSSL, or from gmpy2."""
    found = powers.Gmpy2() if request.param == "gmpy2" else request.getfixturevalue("library")
    assert isinstance(found, powers.Powers)
    monkeypatch.setattr(powers, "fastest", lambda: found)
    return found


@pytest.mark.usefixtures("strange_library")
def test_a_library_that_is_not_known_to_work_is_not_used() -> None:
    assert isinstance(powers.fastest.__wrapped__(), powers.Gmpy2)


@pytest.mark.usefixtures("openssl")
def test_a_search_does_not_wait_for_gmpy2() -> None:
    """Importing it takes longer than to find both primes; and an engine without RSA keys needs no ctypes."""
    run([sys.executable, "-c", """
import sys
import hwtpm.tpm2.engine
from hwtpm.tpm2 import commands
assert "ctypes" not in sys.modules
from hwtpm.crypto.drbg import CtrDrbg
from hwtpm.crypto.primes import generate_rsa
generate_rsa(2048, 65537, CtrDrbg(b"").generate, bool)
assert "gmpy2" not in sys.modules
"""], check=True, cwd=Path(__file__).parents[3])


@pytest.mark.usefixtures("openssl")
def test_the_library_of_hashlib_is_used_where_it_is_openssl() -> None:
    """Debian's Python has its hashes from libcrypto; without this, an RSA key takes twice as long."""
    assert isinstance(powers.fastest(), powers.Libcrypto)


@pytest.mark.parametrize("answer", [0, 1], ids=["fails", "does nothing"])
@pytest.mark.parametrize("name", ["BN_mod_exp_mont", "BN_mod_exp_mont_word", "BN_mod_exp_mont_consttime_x2"])
@pytest.mark.usefixtures("library")
def test_a_function_that_does_something_else_is_noticed(name: str, answer: int,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    find = libcrypto.function

    def function(wanted: str, signature: str, **options: bool) -> libcrypto.Function:
        return find(wanted, signature, **options) if wanted != name else lambda *_: answer

    monkeypatch.setattr(libcrypto, "function", function)
    assert isinstance(powers.fastest.__wrapped__(), powers.Gmpy2)
    assert powers._right(powers.Gmpy2())


@pytest.mark.parametrize(("name", "way"), [("BN_mod_exp_mont_word", powers.Gmpy2),
                                           ("BN_mod_exp_mont_consttime_x2", powers.Libcrypto)])
@pytest.mark.usefixtures("library")
def test_one_at_a_time_is_enough_of_a_library(name: str, way: type[powers.Powers],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    find = libcrypto.function

    def function(wanted: str, signature: str, **options: bool) -> libcrypto.Function:
        return find("no_" * (wanted == name) + wanted, signature, **options)

    monkeypatch.setattr(libcrypto, "function", function)
    found = powers.fastest.__wrapped__()
    assert isinstance(found, way)
    assert found.fermat([PRIMES[1024], PRIMES[1024] - 2]) == powers.Gmpy2().fermat(
        [PRIMES[1024], PRIMES[1024] - 2])


@given(data=st.data())
def test_powers_are_those_of_python(data: st.DataObject) -> None:
    modulus = data.draw(st.integers(1, 2**300)) * 2 + 1
    near = st.sampled_from([0, 1, modulus - 1])
    base, exponent = data.draw(near | st.integers(0, modulus - 1)), data.draw(near | st.integers(0, 2**300))
    for found in (powers.Gmpy2(), powers.fastest()):
        assert found.power(base, exponent, modulus) == pow(base, exponent, modulus)
        assert found.fermat([modulus]) == [pow(2, modulus - 1, modulus)]


@pytest.mark.parametrize("bits", SIZES)
def test_both_ways_give_the_same_powers(library: powers.Libcrypto, bits: int) -> None:
    random, other = Random(SEED + bits), powers.Gmpy2()
    for _ in range(10):
        modulus = random.getrandbits(bits) | 1 << bits - 1 | 1
        base, exponent = random.randrange(modulus), random.getrandbits(bits)
        assert library.power(base, exponent, modulus) == other.power(base, exponent, modulus), (base, modulus)


@pytest.mark.parametrize("bits", SIZES)
def test_both_ways_give_the_same_residues_for_any_two_numbers(library: powers.Libcrypto, bits: int) -> None:
    random, other = Random(SEED + bits), powers.Gmpy2()
    top = 1 << bits - 1
    edges = [top + 1, top + 3, 2 * top - 1, 2 * top - 3, 3 * (top >> 1) + 1, *PRIMES.values()]
    for n in range(20):
        odd = [random.getrandbits(bits) | top | 1 for _ in range(2)]
        first, second = [random.choice(edges) if random.random() < n / 40 else number for number in odd]
        for numbers in ([first, second], [first, first], [first], []):
            assert library.fermat(numbers) == other.fermat(numbers), numbers


@pytest.mark.usefixtures("way")
def test_primes_have_the_residue_one() -> None:
    fermat = powers.fastest().fermat
    for p in PRIMES.values():
        assert fermat([p]) == [1]
        for q in PRIMES.values():
            assert fermat([p, q]) == [1, 1]
    assert fermat([PRIMES[1024], PRIMES[1024] - 2])[1] != 1
    assert fermat([PRIMES[1024] - 2, PRIMES[1024]])[0] != 1


@pytest.mark.parametrize(("bits", "count"), [(512, 60), (1024, 25), (1536, 8), (2048, 8), (3072, 2)])
def test_the_same_entropy_gives_the_same_primes_both_ways(library: powers.Libcrypto, bits: int, count: int,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary RSA key depends on its seed alone, not on what computes; octets are taken in one order."""
    for number in range(count):
        found = []
        for way in (library, powers.Gmpy2()):
            monkeypatch.setattr(powers, "fastest", lambda way=way: way)
            drbg = Derivation(b"seed", b"use", b"%d" % number) if number % 2 else CtrDrbg(b"%d" % number)
            taken: list[bytes] = []
            random = drbg.random if isinstance(drbg, Derivation) else drbg.generate

            def entropy(size: int, random=random, taken=taken) -> bytes:  # type: ignore[no-untyped-def]
                taken.append(random(size))
                return taken[-1]

            found.append((primes.generate_rsa(bits, 65537, entropy, never), taken))
        assert found[0] == found[1], number


@pytest.mark.parametrize("turn", [1, 2, 3, 10])
@pytest.mark.usefixtures("way")
def test_a_search_ends_whenever_it_is_cancelled(turn: int) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) == turn

    with pytest.raises(Cancelled):
        primes.generate_rsa(2048, 65537, CtrDrbg(b"cancelled").generate, cancelled)
    assert len(asked) == turn


def test_threads_compute_at_the_same_time(library: powers.Libcrypto) -> None:
    random = Random(SEED)
    numbers = [random.getrandbits(1024) | 1 << 1023 | 1 for _ in range(64)]
    expected = powers.Gmpy2().fermat(numbers)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            pairs = pool.map(lambda i: library.fermat(numbers[i : i + 2]), range(0, len(numbers), 2))
            assert [residue for pair in pairs for residue in pair] == expected


def test_a_failure_says_so_and_the_next_power_is_right(library: powers.Libcrypto) -> None:
    """An even modulus, which no caller has, is the one thing that OpenSSL refuses."""
    with pytest.raises(MemoryError):
        library.power(3, 5, 1 << 80)
    assert library.power(3, 5, 1001) == 243


@pytest.mark.parametrize("bits", [64, 1024])
def test_powers_leave_no_memory_behind(library: powers.Libcrypto, bits: int) -> None:
    """A number of 1024 bits that is not freed is 150 octets; there are three or more in each power."""
    modulus = (1 << bits) - 105
    times = 20_000 if bits < 1024 else 1000

    def work() -> None:
        library.power(5, 7, modulus)
        library.fermat([modulus, modulus])

    assert growth(work, times) < times * 64


def test_failures_leave_no_memory_behind(library: powers.Libcrypto) -> None:
    def work() -> None:
        with pytest.raises(MemoryError):
            library.power(5, 7, 1 << 1023)

    assert growth(work, 5000) < 5000 * 64

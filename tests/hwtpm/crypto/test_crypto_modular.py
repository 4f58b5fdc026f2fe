"""Powers with secret exponents, against Python's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwtpm.crypto.errors import OutOfRange
from hwtpm.crypto.modular import power

NUMBERS = st.integers(0, 1 << 300)


@given(NUMBERS, NUMBERS, NUMBERS.map(lambda number: number | 1))
def test_a_power_is_that_of_python(base: int, exponent: int, modulus: int) -> None:
    assert power(base, exponent, modulus) == pow(base, exponent, modulus)


@pytest.mark.parametrize("modulus", [1, 3, 0x10001])
def test_the_exponent_can_be_zero(modulus: int) -> None:
    assert power(5, 0, modulus) == pow(5, 0, modulus)


@pytest.mark.parametrize("modulus", [0, 2, 1 << 2048])
def test_an_even_modulus_is_refused(modulus: int) -> None:
    with pytest.raises(OutOfRange):
        power(3, 5, modulus)

"""Lists of PCRs as people write them on a command line."""

from __future__ import annotations

import click

from cusetpm.settings import pcr_bits
from hwtpm.errors import StateError


class Pcrs(click.ParamType[bytes]):
    """A list of PCRs, as a bit map."""

    name = "pcrs"

    def convert(self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        try:
            return pcr_bits(value)
        except StateError as error:
            self.fail(str(error), param, ctx)

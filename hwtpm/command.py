"""What the request classes of both families have in common."""

from __future__ import annotations

from typing import get_args

from hwtpm.wire import Wire


def response_of(request: type[Wire]) -> type[Wire]:
    """Return the response class that *request* names as the type argument of its base, Command."""
    for base in request.__orig_bases__:  # type: ignore[attr-defined]
        for argument in get_args(base):
            if isinstance(argument, type):
                return argument
    raise TypeError(f"{request.__name__} does not name its response")

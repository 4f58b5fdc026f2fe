"""The program `cusetpm`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line, and exit with its status."""
    # Until there is something to clean up, Ctrl-C ends the program as it would end one in C: at once, and
    # without a traceback from the middle of an import.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cusetpm import cli

    cli.main()


if __name__ == "__main__":
    main()

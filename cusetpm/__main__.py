"""The program `cusetpm`."""

from __future__ import annotations

from cusetpm.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

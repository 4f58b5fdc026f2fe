"""Runs a command in a terminal and answers its questions for passwords.

    answering.py ANSWER... -- COMMAND [ARG]...

Each ANSWER is for one prompt, in order; the exit status is COMMAND's, or 1 if prompts and answers differ.
"""

from __future__ import annotations

import os
import pty
import sys


def main(arguments: list[str]) -> int:
    split = arguments.index("--")
    answers, command = arguments[:split], arguments[split + 1 :]
    pid, terminal = pty.fork()
    if not pid:
        os.execvp(command[0], command)  # noqa: S606 - what the caller names
    seen = b""
    while True:
        try:
            said = os.read(terminal, 4096)
        except OSError:  # EIO: nobody has it open any more
            break
        if not said:
            break
        os.write(1, said)
        seen += said
        if seen.rstrip(b" ").endswith(b"assword:"):
            seen = b""
            if not answers:
                print("answering.py: no answer left", file=sys.stderr)
                return 1
            os.write(terminal, answers.pop(0).encode() + b"\n")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if answers and not status:
        print(f"answering.py: nobody has asked for {len(answers)} answers", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

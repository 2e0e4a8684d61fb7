"""Ends a program together with its owner; a script that needs only the standard library.

    python watcher.py DIRECTORY GRACE_S PROGRAM [ARGUMENT...]

For programs that cannot watch their owner themselves, such as a Redis server; worker processes can. The owner
holds the other end of standard input. When that end closes, because the owner closes it or dies for any
reason, the program is ended and DIRECTORY removed. The watcher exits with the program's status, or 127 if it
could not be started.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading


def main(directory: str, grace_s: float, command: list[str]) -> int:
    """Run `command` until it ends or the owner is gone; the exit status."""
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    # Handlers instead of SIG_IGN, which the program would inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: program.terminate())
    owner_is_gone = threading.Event()
    threading.Thread(target=_end_with_owner, args=(program, grace_s, owner_is_gone), daemon=True).start()
    status = program.wait()
    if owner_is_gone.is_set():
        shutil.rmtree(directory, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _end_with_owner(program: subprocess.Popen[bytes], grace_s: float, owner_is_gone: threading.Event) -> None:
    # Not through sys.stdin, whose lock would be held as the interpreter ends.
    while os.read(0, 1):
        pass
    owner_is_gone.set()
    program.terminate()
    try:
        program.wait(grace_s)
    except subprocess.TimeoutExpired:
        program.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))

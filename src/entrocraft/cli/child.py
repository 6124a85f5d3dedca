"""`python -m entrocraft.cli.child ARGUMENTS`: the command line, ended when the process that started it ends.

The parent holds the other end of this process's standard input. That end closes when the parent closes it or dies, by
whatever signal, so nothing is left behind. SIGTERM, which follows from it, stops a training after its step, resumably.
"""

import os
import signal
import sys
import threading

from entrocraft.cli import main


def _end_with_parent() -> None:
    # Past Python's own buffer: a daemon thread that holds its lock could not be ended.
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main()

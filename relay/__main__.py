"""``python -m relay`` is the command ``outbox``."""

import signal

if __name__ == "__main__":
    # Imports take a moment, and Ctrl-C there would show a traceback of theirs.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from outbox.__main__ import main

if __name__ == "__main__":
    main()

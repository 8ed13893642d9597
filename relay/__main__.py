"""``python -m relay`` is the command ``outbox``."""

from outbox.__main__ import main

if __name__ == "__main__":
    main()

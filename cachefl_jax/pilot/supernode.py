"""Flower's SuperNode, as `flower-supernode` starts it, which ends with the process that started it, however that ends:
a site that was killed must not go on without anyone to see it."""

import os
import signal
import threading
import time

PARENT = "CACHEFL_SITE_PROCESS"  # the variable with the number of the process that started this one


def end_with(parent: int) -> None:
    """Ends this process and all that it has started once `parent` is no more."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    threading.Thread(target=end_with, args=(int(os.environ[PARENT]),), daemon=True).start()
    from flwr.supernode.cli import flower_supernode

    flower_supernode()


if __name__ == "__main__":
    main()

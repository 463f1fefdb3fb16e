"""Several requests to a server at once, since one waits most of its time for the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
# A server has a few processes. More requests than these would only wait there instead of here.
REQUESTS_AT_ONCE = 4


def for_each(items: Iterable[Item], work: Callable[[Item], None], at_once: int) -> None:
    """Call `work` with every item, in `at_once` threads. After a failure no further item is begun.

    The threads are daemons: a process that ends does not wait for a server that does not answer.

    Raises: the first failure, once every call that was begun has returned.
    """
    waiting, lock = iter(items), threading.Lock()
    failures: list[BaseException] = []

    def take() -> None:
        while not failures:
            try:
                with lock:
                    item = next(waiting)
                work(item)
            except StopIteration:
                return
            except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
                failures.append(error)

    if at_once == 1:  # without threads, in which a debugger and SQLite are less at ease
        take()
    else:
        threads = [threading.Thread(target=take, name="tracker", daemon=True) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]

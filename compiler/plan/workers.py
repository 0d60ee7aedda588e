"""One function of many items: in this process, in local ones, or on a Dask cluster."""

import importlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from ..errors import ToolError

__all__ = ["spread"]

Item = TypeVar("Item")
Result = TypeVar("Result")

#: how often an item is given away again after the workers that held it were lost
_TRIES = 4
#: seconds without any worker after which a cluster counts as lost
_ALONE = 60.0


def spread(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    scheduler: str | None,
    *,
    patience: float = 10.0,
) -> Iterator[tuple[Item, Result]]:
    """``(item, task(item))`` for each of ``items``, as soon as it is known.

    ``jobs`` local processes share the work, or the workers of the Dask ``scheduler`` (an address);
    ``task`` and the items are pickled for them. A worker that ends in the middle loses the item
    that it computes, which is computed again elsewhere, and nothing else. ``patience``: seconds in
    which the scheduler must answer. Raises
    :class:`~.errors.ToolError` when the scheduler can not be used, also where no items are left, or
    all of its workers are lost, and what ``task`` raises.
    """
    if scheduler is not None:
        return _by_dask(task, items, scheduler, patience)
    if jobs > 1 and len(items) > 1:
        return _by_processes(task, items, jobs)
    return ((item, task(item)) for item in items)


_task: Callable[[Any], Any] | None = None


def _start(task: Callable[[Any], Any]) -> None:
    """Give a new worker process the task, once."""
    global _task
    _task = task


def _work(item: Any) -> Any:
    assert _task is not None
    return _task(item)


def _by_processes(
    task: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, Result]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(items)), context, _start, (task,)) as pool:
        waiting = {pool.submit(_work, item): item for item in items}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _by_dask(
    task: Callable[[Item], Result], items: Sequence[Item], address: str, patience: float
) -> Iterator[tuple[Item, Result]]:
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=patience)
    except (OSError, ValueError) as error:
        raise ToolError(
            f"no Dask scheduler answers at {address} ({error}); start one with "
            "dask scheduler, and workers with dask worker, where gatewright "
            "is installed with its extra dask too"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise ToolError(
                f"the Dask scheduler at {address} has no workers; start some with "
                f"dask worker {address}, where gatewright is installed with its extra "
                "dask too"
            )
        left = list(range(len(items)))
        for _ in range(_TRIES):
            if not left:
                break
            done = set()
            for number, result in _round(distributed, client, task, items, left, address):
                done.add(number)
                yield items[number], result
            left = [number for number in left if number not in done]
    if left:
        raise ToolError(
            f"workers of the Dask scheduler at {address} ended {_TRIES} times while they computed "
            f"{len(left)} of {len(items)} tasks; look for too little memory in their logs, and run "
            "the same command again: it goes on where it stopped"
        )


def _distributed() -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise ToolError(
            "--scheduler needs Dask, which is not installed; install it with "
            "pip install '.[dask]' in a clone of gatewright, or leave --scheduler out to use this "
            "machine"
        ) from error


def _round(
    distributed: Any,
    client: Any,
    task: Callable[[Any], Any],
    items: Sequence[Any],
    numbers: Sequence[int],
    address: str,
) -> Iterator[tuple[int, Any]]:
    """Results by number, without those whose inputs or workers were lost on the way."""
    shared = client.scatter(task, broadcast=True, hash=False)
    waiting = {client.submit(_apply, shared, items[n], pure=False): n for n in numbers}
    last_seen = time.monotonic()
    while waiting:
        try:
            ended = distributed.wait(list(waiting), 5, "FIRST_COMPLETED").done
        except TimeoutError:
            ended = ()
        for future in ended:
            number = waiting.pop(future)
            if future.status == "finished":
                yield number, future.result()
            elif future.status == "error" and not isinstance(
                error := future.exception(), distributed.scheduler.KilledWorker
            ):
                raise error
        if client.scheduler_info()["workers"]:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > _ALONE:
            raise ToolError(
                f"all workers of the Dask scheduler at {address} have ended; start some with "
                f"dask worker {address}, and run the same command again: it goes on where it "
                "stopped"
            )


def _apply(task: Callable[[Item], Result], item: Item) -> Result:
    return task(item)

"""What one of several processes does for all of them."""

import sys
from collections.abc import Callable

from agssp.errors import InputError, StorageError
from agssp.faults import storage_fault

SentError = tuple[str, str]
"""Name of an error's class, and its message."""


def on_main_process(work: Callable[[], object]) -> None:
    """Do something on the first process alone; the others wait for it.

    Raises:
        InputError: what `work` raised, on every process: one alone would leave the others waiting for it for ever.
        StorageError: the same, for what `work` met of the machine's faults.
    """
    import torch
    from accelerate import PartialState

    state = PartialState()
    error: SentError | None = None
    if state.is_main_process:
        try:
            work()
        except Exception as problem:
            error = sent_error(problem)
    if state.num_processes > 1:
        errors = [error]
        torch.distributed.broadcast_object_list(errors, src=0)
        error = errors[0]
    if error is not None:
        raise received_error(error)


def sent_error(error: Exception) -> SentError:
    """An error as it can be sent to other processes, so that all of them end with the same one, and status.

    Args:
        error: that a process has met.

    Raises:
        Exception: the error itself, where it is neither an InputError nor a fault of the machine.
    """
    fault = storage_fault(error)
    if fault is None and not isinstance(error, InputError):
        raise error
    return (StorageError if fault else InputError).__name__, str(error) if isinstance(error, InputError) else str(fault)


def received_error(sent: SentError) -> InputError:
    """The error that `sent_error` has taken apart."""
    name, message = sent
    return StorageError(message) if name == StorageError.__name__ else InputError(message)


def close_process_group(*, wait: bool = True) -> None:
    """Leave the process group, if this process is in one, before the interpreter ends.

    A process that ends inside the group may be aborted by the group's own threads, upon which the launcher would stop
    the others in the middle of what they are writing.

    Args:
        wait: for all other processes to be ready too; not after an error, which they need not have met.
    """
    torch = sys.modules.get("torch")  # whoever has not imported it is in no group
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    if wait:
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()

"""What one of several processes does for all of them."""

import sys
from collections.abc import Callable

from agssp.errors import InputError, StorageError
from agssp.files import storage_fault


def on_main_process(work: Callable[[], object]) -> None:
    """Do something on the first process alone; the others wait for it.

    Raises:
        InputError: what `work` raised, on every process: one alone would leave the others waiting for it for ever.
        StorageError: the same of a fault of the machine, such as a full disk.
    """
    import torch
    from accelerate import PartialState

    state = PartialState()
    error: InputError | None = None
    if state.is_main_process:
        try:
            work()
        except InputError as problem:
            error = problem
        except OSError as problem:
            if (fault := storage_fault(problem)) is None:
                raise
            error = StorageError(fault)
    if state.num_processes > 1:
        kind = None if error is None else type(error)
        told = [(kind, str(error))]
        torch.distributed.broadcast_object_list(told, src=0)
        kind, text = told[0]
        error = None if kind is None else kind(text)
    if error is not None:
        raise error


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

"""What one of several processes does for all of them."""

import sys
from collections.abc import Callable

from agssp.errors import InputError


def on_main_process(work: Callable[[], object]) -> None:
    """Do something on the first process alone; the others wait for it.

    Raises:
        InputError: what `work` raised, on every process: one alone would leave the others waiting for it for ever.
    """
    import torch
    from accelerate import PartialState

    state = PartialState()
    error: str | None = None
    if state.is_main_process:
        try:
            work()
        except InputError as problem:
            error = str(problem)
    if state.num_processes > 1:
        errors = [error]
        torch.distributed.broadcast_object_list(errors, src=0)
        error = errors[0]
    if error is not None:
        raise InputError(error)


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

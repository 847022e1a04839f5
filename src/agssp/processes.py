"""What one of several processes does for all of them."""

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

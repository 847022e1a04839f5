"""What the libraries below print while a command runs: each message once, and no bar for what takes a moment."""

import logging


class LastHandler(logging.Handler):
    """Prints warnings that nothing else has printed, as Python does where no handler is; put on the root logger.

    Libraries that log by `logging.warning(...)` give a root logger without handlers one that prints all records of all
    libraries, also of those that have printed them already.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record of the root logger, or of one that has no handler on its way up."""
        logger: logging.Logger | None = logging.getLogger(record.name)
        root = logging.getLogger()
        while logger is not None and logger is not root:
            if logger.handlers:
                return
            logger = logger.parent
        if logging.lastResort is not None:
            logging.lastResort.handle(record)


def tame_libraries() -> None:
    """Print each message of the libraries once, and no bar of transformers; a program's own handlers stay."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(LastHandler())

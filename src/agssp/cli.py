"""`agssp COMMAND ...`: a table of the modules in `commands/`."""

import importlib
import re
import sys
from collections.abc import Sequence

from .arguments import exit_with, parse_arguments
from .errors import InputError, StorageError
from .faults import storage_fault
from .library_messages import tame_libraries
from .processes import close_process_group
from .telemetry import switch_off
from .version import __version__

TRY_AGAIN = 75
"""Exit status of `sysexits.h` for what fails now and need not fail later."""

COMMANDS = {
    "inspect": "read a data set and show what was read: run this first",
    "anomaly-maps": "draw an anomaly map for every unlabelled image",
    "evaluate-maps": "AUROC of the maps, and their IoU with masks",
    "pseudo-boxes": "cut pseudo-defect boxes from the maps",
    "pretrain-backbone": "distil the maps into a backbone (AGBP)",
    "pretrain-detector": "pretrain a whole detector on the pseudo boxes (AGDP)",
    "finetune": "train a detector on a few labelled images",
    "evaluate": "COCO mAP of a detector on labelled images",
    "predict": "find defects in images: pictures and JSON",
    "profile": "parameters, FLOPs, memory and images a second, beside the home libraries",
    "export": "write a detector for other programs: ONNX, timm, ultralytics",
    "split": "make a seeded few-label training set and a test set",
    "dataset build": "build a public data set, or your own line's, from its files",
    "dataset verify": "open every row of a built data set and name what is wrong",
    "dataset check-overlap": "find images that two data sets share, also turned or cropped",
    "dataset push": "publish a data set with its maps on the Hub",
    "push": "publish a backbone, a detector or KeAD on the Hub, with its card",
    "study": "run a whole comparison: many seeds, shared stages, one table",
    "knowledge": "check or list descriptions of defects",
    "quickstart": "run the whole chain on embedded synthetic data",
}


def usage(names: Sequence[str] = tuple(COMMANDS)) -> str:
    """The text of `agssp --help`: commands, all or some, with what each does."""
    width = max(map(len, names))
    table = "\n".join(f"  {name:<{width}}  {COMMANDS[name]}" for name in names)
    return (
        f"agssp {__version__}: defect detectors from unlabelled images and few labels\n\n"
        f"usage: agssp COMMAND [flags]\n\n{table}\n\n`agssp COMMAND --help` lists the usual flags of a command, "
        f"`--help-all` all of them."
    )


def run(name: str, argv: Sequence[str]) -> None:
    """Run one command on the words after its name.

    Args:
        name: A key of `COMMANDS`.
        argv: The words.

    Raises:
        SystemExit: status 2 for input that cannot be used, 75 when the machine failed (a full disk, an unmounted
            share) and the same command may go on later, 130 when interrupted.
    """
    switch_off()
    try:
        module = importlib.import_module(f"agssp.commands.{re.sub('[- ]', '_', name)}")
        parsed = parse_arguments(
            name,
            module.ARGUMENTS,
            argv,
            positional=module.POSITIONAL,
            description=(module.__doc__ or "").split("\n\n")[0],
        )
        tame_libraries()
        module.main(*parsed)
        close_process_group()
    except StorageError as error:
        close_process_group(wait=False)
        exit_with(_passing(error), TRY_AGAIN)
    except InputError as error:
        close_process_group(wait=False)
        exit_with(f"error: {error}", 2)
    except KeyboardInterrupt:
        exit_with("interrupted; finished work is kept, run the same command to go on", 130)
    except Exception as error:
        if (fault := storage_fault(error)) is None:
            raise
        close_process_group(wait=False)
        exit_with(_passing(fault), TRY_AGAIN)


def _passing(fault: object) -> str:
    return f"error: {fault}. Finished work is kept; run the same command to go on"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `agssp` command."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
    elif words[0] in ("-V", "--version"):
        print(__version__)
    elif " ".join(words[:2]) in COMMANDS:
        run(" ".join(words[:2]), words[2:])
    elif words[0] in COMMANDS:
        run(words[0], words[1:])
    else:
        below = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
        shown = usage(below or tuple(COMMANDS))
        if below and words[1:] and words[1] in ("-h", "--help", "--help-all", "help"):
            print(shown)
        else:
            exit_with(f"error: {no_command(words, below)}\n\n{shown}", 2)


def no_command(words: Sequence[str], below: Sequence[str]) -> str:
    """What is wrong with words that begin with no command, and which is near.

    Args:
        words: as given.
        below: the commands of two words that begin with the first of them.
    """
    import difflib

    if below and not words[1:]:
        return f"{words[0]!r} alone is no command"
    near = difflib.get_close_matches(" ".join(words[:2]), COMMANDS, n=1)
    near = near or difflib.get_close_matches(words[0], COMMANDS, n=1)
    given = " ".join(words[: 2 if below else 1])
    return f"no command {given!r}{f'; did you mean {near[0]!r}?' if near else ''}"

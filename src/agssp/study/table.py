"""What a study has found so far: one line a cell as CSV, and means with intervals over seeds as Markdown."""

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .plan import Cell
from .runner import State
from .statistics import Estimate, estimate, separated_best
from .study_file import Group, Row, Study

METRICS = {"map_50": "mAP@.5", "map_50_95": "mAP@.5:.95"}
COLUMNS = ("group", "row", "data", "seed", "state", *METRICS, "stages", "error")


@dataclass(frozen=True)
class CellResult:
    """One cell and what came of it.

    Attributes:
        cell: the cell.
        state: `done`, `failed` or `missing`.
        metrics: of `METRICS`, 0..1; empty unless done.
        error: what failed, with the stage's name.
    """

    cell: Cell
    state: str
    metrics: dict[str, float]
    error: str = ""


def results(state: State) -> list[CellResult]:
    """Read what the finished stages have written, for every cell."""
    return [_result(state, cell) for cell in state.plan.cells]


def csv_table(found: Sequence[CellResult]) -> str:
    """One line a cell; the same results give the same text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in found:
        cell = entry.cell
        numbers = [entry.metrics.get(name, "") for name in METRICS]
        writer.writerow([cell.group, cell.row, cell.data, cell.seed, entry.state, *numbers, " ".join(cell.stages),
                         entry.error])  # fmt: skip
    return text.getvalue()


def estimates(found: Sequence[CellResult], group: str, row: str, data: str) -> dict[str, Estimate]:
    """Mean and interval in percent over the finished seeds of a row on a data set, by metric."""
    done = [entry.metrics for entry in found
            if (entry.cell.group, entry.cell.row, entry.cell.data) == (group, row, data) and entry.metrics]  # fmt: skip
    return {name: estimate([100 * metrics[name] for metrics in done]) for name in METRICS}


def best_rows(study: Study, found: Sequence[CellResult], group: str, data: str, metric: str) -> str | None:
    """The row of a group that stands out, once all of its planned cells are done."""
    cells = [entry for entry in found if (entry.cell.group, entry.cell.data) == (group, data)]
    if any(entry.state != "done" for entry in cells):
        return None
    rows = list(dict.fromkeys(entry.cell.row for entry in cells))
    return separated_best({row: estimates(found, group, row, data)[metric] for row in rows})


def written(entry: Estimate, state: str, *, bold: bool = False) -> str:
    """A mean in percent with its interval, as text."""
    if math.isnan(entry.mean):
        return "failed" if state == "failed" else "-"
    text = f"{entry.mean:.1f}" + ("" if math.isnan(entry.half_width) else f" ± {entry.half_width:.1f}")
    return f"**{text}**" if bold else text


def table_rows(study: Study, found: Sequence[CellResult], group: Group) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of a group's table.

    Returns:
        The heading, and a line for each row of the plan, all as text.
    """
    planned = {(entry.cell.row, entry.cell.data) for entry in found if entry.cell.group == group.name}
    sets = [entry.name for entry in study.data if any(data == entry.name for _, data in planned)]
    rows = [row for row in study.rows if row.group == group.name and any(label == row.label for label, _ in planned)]
    paper = {name for row in rows for name in row.paper if name in sets}
    heading = [group.name or "row"]
    for name in sets:
        heading += [f"{name} {title}" for title in METRICS.values()] + ["seeds"]
        heading += ["paper"] if name in paper else []
    lines = []
    for row in rows:
        line = [row.label]
        for name in sets:
            line += _cells(study, found, row, name)
            if name in paper:
                line.append(" / ".join(f"{number:.1f}" for number in row.paper[name]) if name in row.paper else "")
        lines.append(line)
    return heading, lines


def markdown(study: Study, found: Sequence[CellResult], facts: dict[str, str]) -> str:
    """The whole table with what it rests on.

    Args:
        study: the study.
        found: results of all planned cells.
        facts: further lines for the top: versions, hardware.
    """
    lines = [f"# {study.title}", ""]
    if study.warning:
        lines += [f"**{study.warning}**", ""]
    lines += [study.about.strip(), ""] if study.about else []
    lines += [f"- {text}" for text in [*shared_facts(study, found), *(f"{k}: {v}" for k, v in facts.items())]]
    for group in study.groups.values():
        heading, rows = table_rows(study, found, group)
        if rows:
            numbers = ["---", *["---:"] * (len(heading) - 1)]
            lines += ["", *(f"| {' | '.join(line)} |" for line in (heading, numbers, *rows))]
    lines += ["", "What each row is:", ""]
    lines += [f"- {row.group} / {row.label}: {described(row)}" for row in study.rows]
    failed = [entry for entry in found if entry.state == "failed"]
    if failed:
        lines += ["", "Failed:", ""]
        lines += [f"- {entry.cell.name}, seed {entry.cell.seed}: {entry.error}" for entry in failed]
    return "\n".join(lines) + "\n"


def shared_facts(study: Study, found: Sequence[CellResult]) -> list[str]:
    """What all rows have in common and in what they may differ, in sentences."""
    done = sum(entry.state == "done" for entry in found)
    states = f"{done} of {len(found)} cells done" + "".join(
        f", {count} {state}"
        for state in ("failed", "missing")
        if (count := sum(entry.state == state for entry in found))
    )
    facts = [
        f"Mean ± half width of the 95 % t interval over the seeds {', '.join(map(str, study.seeds))}, in percent; bold "
        "only where the best row's interval lies above that of every other row of its group",
        f"A seed decides the training images, the selection images, and finetuning; pretraining has the one seed "
        f"{study.pretraining_seed} for all of them, so its own spread is not in the intervals",
        "Training and test images, selection, budget and augmentation of finetuning are the same for all rows of a "
        f"group: {_flags(study.flags.get('finetune', {})) or 'the defaults of `agssp finetune`'}",
    ]
    facts += [
        f"{group.name} ({group.backbone} in {group.detector}): {_flags(group.flags['finetune'])}"
        for group in study.groups.values()
        if group.flags.get("finetune")
    ]
    if study.varies:
        facts.append(f"Rows differ in {', '.join(study.varies)}: that is what is compared")
    for entry in study.data:
        number = f"{entry.amount:g} images"
        share = f"{entry.amount:.0%} of the images"
        amount = {"all": "all others", "count": number, "per_class": f"{number} a class", "fraction": share}
        test = "its own test set" if entry.test else f"{entry.holdout:.0%} put aside" if entry.holdout else "all others"
        facts.append(f"{entry.name}: tested on {test}, trained on {amount[entry.how]}")
    return [*facts, states]


def described(row: Row) -> str:
    """In a few words what a row is made of."""
    names = {"anomaly_maps": "maps", "pseudo_boxes": "pseudo boxes", "pretrain_backbone": "AGBP",
             "pretrain_detector": "AGDP", "finetune": "finetuned"}  # fmt: skip
    parts = [f"start {row.start}"]
    for stage, name in names.items():
        if stage in row.stages:
            if stage == "pretrain_backbone" and row.stages[stage].get("distillation") is False:
                name = "pretrained on the corpus without maps"
            own = {key: value for key, value in row.stages[stage].items() if key != "distillation"}
            parts.append(f"{name} ({_flags(own)})" if own else name)
    return "; ".join(parts)


def _flags(flags: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in flags.items())


def _cells(study: Study, found: Sequence[CellResult], row: Row, data: str) -> list[str]:
    states = [entry.state for entry in found
              if (entry.cell.group, entry.cell.row, entry.cell.data) == (row.group, row.label, data)]  # fmt: skip
    numbers = estimates(found, row.group, row.label, data)
    state = "failed" if "failed" in states else "missing"
    texts = [written(numbers[metric], state, bold=best_rows(study, found, row.group, data, metric) == row.label)
             for metric in METRICS]  # fmt: skip
    done = states.count("done")
    return [*texts, (f"{done}" if done == len(states) else f"{done} of {len(states)}")]


def _result(state: State, cell: Cell) -> CellResult:
    last = cell.stages[-1]
    if state.record(last):
        tested = json.loads((state.root / last / "run.json").read_text(encoding="utf-8"))["results"]["test"]
        return CellResult(cell, "done", {name: float(tested[name] or 0.0) for name in METRICS})
    blocking = state.blocked_by(last)
    if blocking is None:
        return CellResult(cell, "missing", {})
    failure = state.failure(blocking)
    text = " ".join(failure["error"].split()) if failure else "is being tried again"
    return CellResult(cell, "failed", {}, f"{blocking}: {text}")

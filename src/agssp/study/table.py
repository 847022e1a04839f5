"""The table of a study: means with intervals over seeds, and above them what the rows share and in what they differ."""

import math
from collections.abc import Sequence
from typing import Any

from .definition import WITHOUT_EFFECT, DataSet, Group, Row, Study
from .results import CellResult, best_row, difference, of_row, row_estimate
from .statistics import Estimate

STAGE_NAMES = {
    "anomaly_maps": "maps",
    "evaluate_maps": "measured",
    "pseudo_boxes": "pseudo boxes",
    "pretrain_backbone": "AGBP",
    "pretrain_detector": "AGDP",
    "finetune": "finetuned",
}


def markdown(study: Study, found: Sequence[CellResult], facts: dict[str, str]) -> str:
    """The whole table with what it rests on.

    Args:
        study: the study.
        found: results of all planned cells.
        facts: further lines for the top: versions, hardware.
    """
    lines = [f"# {study.title}", ""]
    lines += [f"**{study.warning}**", ""] if study.warning else []
    lines += [study.about, ""] if study.about else []
    lines += [f"- {text}" for text in [*shared_facts(study, found), *(f"{k}: {v}" for k, v in facts.items())]]
    for group in study.groups.values():
        lines += _lines(*table_rows(study, found, group))
        lines += _lines(*difference_rows(study, found, group))
    for title, heading, rows in curve_tables(study, found):
        lines += ["", f"{title}:", *_lines(heading, rows)]
    lines += ["", "What each row is:", ""]
    planned = {(entry.cell.group, entry.cell.row) for entry in found}
    lines += [f"- {row.group} / {row.label}: {described(row)}" for row in study.rows
              if (row.group, row.label) in planned]  # fmt: skip
    failed = [entry for entry in found if entry.state == "failed"]
    lines += ["", "Failed:", ""] if failed else []
    lines += [f"- {entry.cell.name}, seed {entry.cell.seed}: {entry.error}" for entry in failed]
    return "\n".join(lines) + "\n"


def table_rows(study: Study, found: Sequence[CellResult], group: Group) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of a group's table, in percent, as text.

    Returns:
        The heading, and a line for each row of the plan.
    """
    planned = {(entry.cell.row, entry.cell.data) for entry in found if entry.cell.group == group.name}
    sets = [entry.name for entry in study.data if any(data == entry.name for _, data in planned)]
    rows = [row for row in study.rows if row.group == group.name and any(label == row.label for label, _ in planned)]
    paper = {name for row in rows for name in row.paper if name in sets}
    heading = [group.name or "row"]
    for name in sets:
        heading += [f"{name} {title}" for title in study.metrics.values()] + ["seeds"]
        heading += ["paper"] if name in paper else []
    lines = []
    for row in rows:
        line = [row.label]
        for name in sets:
            line += numbers(study, found, row, name)
            line += [published(row, name)] if name in paper else []
        lines.append(line)
    return heading, lines


def difference_rows(
    study: Study, found: Sequence[CellResult], group: Group, data: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Heading and lines of a group's paired differences, in percent points, as text.

    Args:
        study: the study.
        found: results of all planned cells.
        group: the group.
        data: names of the data sets; default: all that have cells of the group.

    Returns:
        The heading, and a line for each pair of rows that the study compares; bold where the interval leaves out 0.
    """
    planned = {(entry.cell.row, entry.cell.data) for entry in found if entry.cell.group == group.name}
    sets = [entry.name for entry in study.data if any(name == entry.name for _, name in planned)]
    sets = [name for name in sets if data is None or name in data]
    heading = [f"{group.name}, difference seed by seed".removeprefix(", ")]
    heading += [f"{name} {title}" for name in sets for title in study.metrics.values()]
    lines = []
    for row in study.rows:
        if row.group == group.name and any(label == row.label for label, _ in planned):
            for other in row.against:
                estimates = [
                    difference(found, group.name, row.label, other, name, metric)
                    for name in sets
                    for metric in study.metrics
                ]
                if any(entry.count for entry in estimates):
                    texts = [written(entry, bold=entry.low > 0 or entry.high < 0, sign="+") for entry in estimates]
                    lines.append([f"{row.label} - {other}", *texts])
    return heading, lines


def numbers(study: Study, found: Sequence[CellResult], row: Row, data: str) -> list[str]:
    """A row's metrics on a data set, and how many seeds they are of, as text."""
    cells = of_row(found, row.group, row.label, data)
    failed = any(entry.state == "failed" for entry in cells)
    texts = [
        written(
            row_estimate(found, row.group, row.label, data, metric),
            failed=failed,
            bold=best_row(found, row.group, data, metric) == row.label,
        )
        for metric in study.metrics
    ]
    done = sum(entry.state == "done" for entry in cells)
    return [*texts, f"{done}" if done == len(cells) else f"{done} of {len(cells)}"]


def published(row: Row, data: str) -> str:
    """The paper's numbers of a row on a data set, as text."""
    return " / ".join(f"{number:.1f}" for number in row.paper.get(data, []))


def curve_tables(study: Study, found: Sequence[CellResult]) -> list[tuple[str, list[str], list[list[str]]]]:
    """In a study of maps: mean mask IoU at every delta of the adaptive rule, and at every fixed threshold.

    Returns:
        For both: what it is, the heading, and a line for each value; a column for each row and data set. Means over
        the seeds, in percent, the highest in bold.
    """
    tables = []
    for name, title in (("delta", "Mask IoU by delta"), ("threshold", "Mask IoU by fixed threshold")):
        columns: dict[str, list[dict[float, float]]] = {}
        for entry in found:
            if entry.curves.get(name):
                columns.setdefault(entry.cell.name, []).append(entry.curves[name])
        places = sorted({place for curves in columns.values() for curve in curves for place in curve})
        means = [[_mean([curve[place] for curve in curves if place in curve]) for place in places]
                 for curves in columns.values()]  # fmt: skip
        highest = [max((value for value in column if not math.isnan(value)), default=math.nan) for column in means]
        lines = []
        for place, *values in zip(places, *means, strict=True):
            texts = [written(Estimate(100 * value, math.nan, 1), bold=value == best)
                     for value, best in zip(values, highest, strict=True)]  # fmt: skip
            lines.append([f"{place:.3g}", *texts])
        if lines:
            tables.append((title, [name, *columns], lines))
    return tables


def written(entry: Estimate, *, failed: bool = False, bold: bool = False, sign: str = "") -> str:
    """A mean in percent with its interval, as text; `sign` is `+` for differences."""
    if math.isnan(entry.mean):
        return "failed" if failed else "-"
    text = f"{entry.mean:{sign}.1f}" + ("" if math.isnan(entry.half_width) else f" ± {entry.half_width:.1f}")
    return f"**{text}**" if bold else text


def shared_facts(study: Study, found: Sequence[CellResult]) -> list[str]:
    """What all rows have in common and in what they may differ, in sentences without a full stop."""
    facts = [
        f"Mean ± half width of the 95 % t interval over the seeds {', '.join(map(str, study.seeds))}, in percent; bold "
        "only where the best row's interval lies above that of every other row of its group"
    ]
    if any(row.against for row in study.rows):
        facts.append(
            "A difference is taken seed by seed, whose training and test images both rows share; bold where its "
            "interval leaves out 0"
        )
    facts += _detector_facts(study, found) if study.kind == "detectors" else _map_facts(study)
    states = [f"{count} {name}" for name in ("done", "failed", "missing")
              if (count := sum(entry.state == name for entry in found))]  # fmt: skip
    return [*facts, f"Of {len(found)} cells: {', '.join(states) or 'none'}"]


def described(row: Row) -> str:
    """In a few words what a row is made of."""
    parts = [f"start {row.start}"] if row.start else []
    for stage, name in STAGE_NAMES.items():
        if stage in row.stages:
            flags = dict(row.stages[stage])
            if stage == "pretrain_backbone" and flags.get("distillation") is False:
                name = "pretrained on the corpus without maps"
                del flags["distillation"]
            parts.append(f"{name} ({_flags(flags)})" if flags else name)
    return "; ".join(parts) or "as the study says"


def _detector_facts(study: Study, found: Sequence[CellResult]) -> list[str]:
    shared = _flags(study.flags.get("finetune", {}))
    facts = [
        "A seed decides the training images, the selection images, and finetuning; pretraining has the one seed "
        f"{study.pretraining_seed} for all of them, so its own spread is not in the intervals",
        "Training and test images, selection, budget and augmentation of finetuning are the same for all rows of a "
        "group" + (f": {shared}" if shared else ""),
    ]
    groups, sets = {entry.cell.group for entry in found}, {entry.cell.data for entry in found}
    for group in study.groups.values():
        if group.name in groups:
            own = _flags(group.flags.get("finetune", {}))
            networks = f"{group.name}: backbone {group.backbone}, detector {group.detector}"
            facts.append(networks + (f"; finetuned with {own}" if own else ""))
    if study.varies:
        facts.append(f"Rows differ in {', '.join(study.varies)}, which is what is compared")
    return facts + [_division(entry) for entry in study.data if entry.name in sets]


def _division(entry: DataSet) -> str:
    """Which images of a data set are for training, and which for testing."""
    if entry.test is not None:
        test = "tested on a test set of its own"
    elif entry.holdout is not None:
        test = f"{entry.holdout:.0%} of the images put aside for testing"
    else:
        test = "tested on all others"
    train = {
        "all": "trained on all images" if entry.test else "trained on all others",
        "count": f"trained on {entry.amount:g} images",
        "per_class": f"trained on {entry.amount:g} images a class",
        "fraction": f"trained on {entry.amount:.0%} of the images",
    }[entry.how]
    return f"{entry.name}: " + (f"{test}, {train}" if entry.holdout is not None else f"{train}, {test}")


def _map_facts(study: Study) -> list[str]:
    return [
        f"A seed decides the reference images; maps: {_flags(study.flags.get('anomaly_maps', {}))}",
        "IoU is the mean over the images with a defect in their mask; the best fixed threshold is chosen on the very "
        "masks that it is measured on, which the adaptive rule never sees",
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _flags(flags: dict[str, Any]) -> str:
    told = {name: value for name, value in flags.items() if name not in WITHOUT_EFFECT}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())


def _lines(heading: list[str], rows: list[list[str]]) -> list[str]:
    """A table of Markdown with an empty line before it; nothing for a table without rows."""
    if not rows:
        return []
    rule = ["---", *["---:"] * (len(heading) - 1)]
    return ["", *(f"| {' | '.join(line)} |" for line in (heading, rule, *rows))]

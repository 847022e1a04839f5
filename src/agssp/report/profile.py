"""The table of `agssp profile`, as Markdown."""

from collections.abc import Sequence
from typing import Any

from agssp.evaluation.profiling import COUNTED

NOTES = f"""\
Both networks of a model have the same weights and take turns in one run. The ratio is the median over the rounds of
theirs to our seconds, with the middle half of the rounds: above 1 ours is faster. Images/s is from the median second of
each, warm.

The network is the forward pass from prepared pixels to scores and boxes. Letterbox and suppression are not in it, but
for the suppression of Faster R-CNN and of its proposals, which is part of the network and takes as long as the weights
find boxes. torchvision's also resizes to the same size and normalises by 0 and 1.

The whole prediction, as `agssp predict` does it, is JPEG decoding, letterbox, network, suppression and boxes on the
image, for synthetic images half as wide again as high, in the largest batch.

{COUNTED}

Memory is that of all tensors when there are most: weights, input, and what lies between. On a GPU the work space of
kernels is in it, on a CPU it is not.
"""


def markdown(models: Sequence[dict[str, Any]], hardware: str) -> str:
    """The table with what it was measured on, and what its columns are.

    Args:
        models: What `agssp profile` measured of each, as in profile.json.
        hardware: What it was measured on.
    """
    batches = list(next(iter(models))["networks"]["agssp"]["images_per_second"]) if models else []
    columns = ["model", "network", "parameters", "GFLOPs", *(f"MiB, batch {batch}" for batch in batches)]
    columns += [f"images/s, batch {batch}" for batch in batches]
    columns.append("images/s, whole prediction")
    rows = [row for model in models for row in _rows(model, batches)]
    lines = [columns, ["---"] * 2 + ["---:"] * (len(columns) - 2), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"Measured on {hardware}.\n\n{table}\n{NOTES}"


def _rows(model: dict[str, Any], batches: Sequence[str]) -> list[list[str]]:
    """Ours, the home library's, and the ratio; or ours and why there is no other."""
    networks, whole = model["networks"], model["end_to_end"]
    rows = [[f"{model['model']}, {model['image_size']} px", "agssp", *_figures(networks["agssp"], batches)]]
    rows[0].append("" if whole is None else f"{whole:.3g}")
    if "home" not in networks:
        return [*rows, ["", model["home"], *[""] * (3 + 2 * len(batches))]]
    rows.append(["", model["home"], *_figures(networks["home"], batches), ""])
    ratios = [[f"{value:.2f}" for value in model["ratio"][batch]] for batch in batches]
    rates = [f"{middle} ({low} to {high})" for low, middle, high in ratios]
    return [*rows, ["", "ratio", *[""] * (2 + len(batches)), *rates, ""]]


def _figures(facts: dict[str, Any], batches: Sequence[str]) -> list[str]:
    memory = [f"{facts['bytes'][batch] / 2**20:.0f}" for batch in batches]
    rates = [f"{facts['images_per_second'][batch]:.3g}" for batch in batches]
    return [f"{facts['parameters'] / 1e6:.2f} M", f"{facts['flops'] / 1e9:.2f}", *memory, *rates]

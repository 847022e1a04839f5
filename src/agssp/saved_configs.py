"""What a config.json from elsewhere may not ask of transformers: code, other repositories, other files and packages."""

from collections.abc import Iterator, Mapping
from typing import Any

from agssp.errors import InputError
from agssp.network_sizes import check_sizes

BACKBONES = ("agssp_backbone", "rt_detr_resnet", "hgnet_v2")
"""model_types of what may be the backbone of a saved model: ours, and those of the published RT-DETR and D-FINE."""

CODE = "auto_map"
REFUSED = {
    CODE: "code of its own, and none but this machine's packages is ever run",
    "backbone": "a backbone by its name, which would be asked for elsewhere",
    "transformers_weights": "weights in a file of another name",
    "quantization_config": "quantised weights, which further packages would be loaded for",
    "fusion_config": "other layers than its own",
}
"""Field -> what it asks for."""

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
BUILT_IN = (None, "eager", "sdpa")
"""Implementations of attention that are torch's own; all other words may fetch compiled code."""


def refuse_code(config: Mapping[str, Any], owner: str) -> None:
    """Refuse a configuration that names code of its own: transformers would ask at the terminal whether to run it.

    Args:
        config: content of config.json.
        owner: whose it is, for the message: such as `detector 'me/mine'`.

    Raises:
        InputError: it does.
    """
    _refuse(config, owner, (CODE,))


def check_config(config: Mapping[str, Any], owner: str) -> None:
    """Refuse a configuration that asks for more than a model of transformers' own with weights from beside it.

    Args:
        config: content of config.json.
        owner: whose it is, for the message: such as `detector 'me/mine'`.

    Raises:
        InputError: it, or a configuration within, has one of the fields `REFUSED`, an implementation of attention that
            is none of torch's, or a backbone of another kind than `BACKBONES`; or its numbers are beyond all networks
            (see `check_sizes`).
    """
    for part in _parts(config):
        _refuse(part, owner, tuple(REFUSED))
        for field in IMPLEMENTATIONS:
            for name in (field, f"_{field}"):
                if part.get(name) not in BUILT_IN:
                    known = ", ".join(str(word) for word in BUILT_IN[1:])
                    raise InputError(
                        f"{owner}: its config.json says {name}={part[name]!r}; expected {known} or none, as others may "
                        "be programs from elsewhere. Take it out of config.json"
                    )
    backbone = config.get("backbone_config")
    kind = backbone.get("model_type") if isinstance(backbone, Mapping) else None
    if kind is not None and kind not in BACKBONES:
        raise InputError(
            f"{owner}: a model on a backbone of type {kind!r}; expected one of ours, or transformers' "
            f"{' or '.join(BACKBONES[1:])}"
        )
    check_sizes(config, owner)


def _refuse(config: Mapping[str, Any], owner: str, fields: tuple[str, ...]) -> None:
    for field in fields:
        if config.get(field):
            raise InputError(
                f"{owner}: its config.json asks for {REFUSED[field]} ({field}={config[field]!r:.80}); ask its owner "
                "for one without, or take the line out of a copy that you trust"
            )


def _parts(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A configuration and those within it."""
    waiting = [config]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [value for name, value in part.items() if name.endswith("_config") and isinstance(value, Mapping)]

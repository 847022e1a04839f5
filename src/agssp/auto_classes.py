"""Lets transformers' Auto classes and pipelines open our models after `import agssp`, which itself imports nothing.

transformers asks one table which configuration class a `model_type` has. Stand-ins for ours are written into it as soon
as it exists; the first question to one of them imports our models, which register themselves. That our classes publish
with a card is arranged here as well, since this place may know both of them.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .hub_client import pushing
from .telemetry import forget_session

TABLE = "transformers.models.auto.configuration_auto"
MODEL_TYPES = {
    "agssp_backbone": ("agssp.models.backbone", "AgsspBackboneConfig"),
    "agssp_pretraining": ("agssp.models.pretraining", "AgsspPreTrainingConfig"),
    "agssp_yolo": ("agssp.models.detection", "YoloConfig"),
    "agssp_faster_rcnn": ("agssp.models.detection", "FasterRcnnConfig"),
    "agssp_dino": ("agssp.models.detection", "DinoConfig"),
}
"""model_type -> where its configuration class is."""


class _StandIn:
    """Acts as a configuration class, and imports it to do so.

    Args:
        module: that has the class.
        name: of the class.
    """

    def __init__(self, module: str, name: str) -> None:
        self._place = module, name

    def _config_class(self) -> Any:
        module, name = self._place
        # transformers' own detectors have our backbones and image processors, so whatever is asked for, all come.
        importlib.import_module("agssp.models.detection")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._config_class()(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "_place":  # a copy that is not filled yet
            raise AttributeError(attribute)
        return getattr(self._config_class(), attribute)


class _Announcer(MetaPathFinder):
    """Waits for the table's module to be imported, and steps aside then."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as Python does, and let it announce our types once it is executed."""
        if fullname != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_announce(module: ModuleType) -> None:
                execute(module)
                _announce(module)

            spec.loader.exec_module = execute_and_announce  # type: ignore[method-assign]
        return spec


def announce_models() -> None:
    """Announce our model types to transformers: now if it is imported, else when it will be."""
    pushing.find_publisher = _find_publisher
    table = sys.modules.get(TABLE)
    if table is not None:
        _announce(table)
    elif not any(isinstance(finder, _Announcer) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Announcer())


def _find_publisher() -> ModuleType:
    return importlib.import_module("agssp.hub.publishing")


def _announce(table: Any) -> None:
    forget_session()
    for model_type, place in MODEL_TYPES.items():
        # Models that are imported already have registered themselves.
        if model_type not in table.CONFIG_MAPPING:
            table.CONFIG_MAPPING.register(model_type, _StandIn(*place))

"""The one data schema: which columns a data set has, of which type, and since which step."""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Array2D, ClassLabel, Features, Image, List, Value

from agssp.errors import InputError

READER_COLUMNS = ("image", "image_id", "category", "is_normal")
PSEUDO_CLASS = "defect"


def objects_feature(defect_types: Sequence[str]) -> dict[str, Any]:
    """The `objects` column: boxes in COCO xywh absolute px, their class, score (0..1 or the map's units), and crowds.

    Empty lists mean that an image has no defects, null that nobody has said. A box with `iscrowd` is the surrounding of
    an unknown number of defects that nobody has told apart: neither an example of its class nor sound surface.
    """
    return {
        "bbox": List(List(Value("float32"), length=4)),
        "category": List(ClassLabel(names=list(defect_types))),
        "score": List(Value("float32")),
        "iscrowd": List(Value("bool")),
    }


def features(categories: Sequence[str], defect_types: Sequence[str] | None = None, *, mask: bool = False) -> Features:
    """Features of a data set as the readers give it.

    Args:
        categories: names of the object categories.
        defect_types: names of the classes in `objects`; None where there are no labels.
        mask: whether there are pixel masks.

    Returns:
        Features with `image`, `image_id`, `category`, `is_normal`, and `mask` and `objects` where asked for. Images
        stay encoded (`decode=False`), so that one bad file can be named and skipped.
    """
    columns: dict[str, Any] = {
        "image": Image(decode=False),
        "image_id": Value("string"),
        "category": ClassLabel(names=list(categories)),
        "is_normal": Value("bool"),
    }
    if mask:
        columns["mask"] = Image(decode=False)
    if defect_types is not None:
        columns["objects"] = objects_feature(defect_types)
    return Features(columns)


def map_features(categories: Sequence[str], grid_size: int) -> Features:
    """Features of a map store: what `agssp anomaly-maps` writes for each image.

    `anomaly_map` holds the raw values on the patch grid; `width` and `height` are those of the upright image in px.
    """
    return Features(
        {
            "image_id": Value("string"),
            "category": ClassLabel(names=list(categories)),
            "is_normal": Value("bool"),
            "width": Value("int32"),
            "height": Value("int32"),
            "anomaly_map": Array2D((grid_size, grid_size), "float16"),
            "anomaly_score": Value("float32"),
            "map_max": Value("float32"),
        }
    )


def check_columns(dataset: Any, required: Iterable[str], source: str = "the data set") -> None:
    """Raise unless a data set has these columns.

    Raises:
        InputError: columns are missing; the message names them and what is there.
    """
    present = list(dataset.features or dataset.column_names or [])
    missing = [column for column in required if column not in present]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise InputError(
            f"{source}: lacks the column{plural} {', '.join(missing)}; it has {', '.join(present) or 'none'}"
        )


def check_schema(dataset: Any, required_columns: Iterable[str] = READER_COLUMNS, source: str = "the data set") -> None:
    """Raise unless a data set has these columns, and those of the schema have the schema's types.

    Args:
        dataset: a `Dataset` or `IterableDataset`.
        required_columns: names of the columns that must be there.
        source: names the data set in the error.

    Raises:
        InputError: columns are missing or of another type; the message names them and what is there.
    """
    check_columns(dataset, required_columns, source)
    present = dataset.features
    expected: dict[str, Any] = {"image_id": Value("string"), "is_normal": Value("bool"), "category": ClassLabel}
    for column in present:
        want, found = expected.get(column), present[column]
        if want is not None and found != want and not (isinstance(want, type) and isinstance(found, want)):
            raise InputError(f"{source}: column {column!r} must be {getattr(want, '__name__', want)}, got {found}")
    objects = present.get("objects")
    if objects is not None and objects != objects_feature(_defect_names(objects)):
        raise InputError(
            f"{source}: column 'objects' must hold bbox (lists of 4 float32, COCO xywh in px), category (ClassLabel), "
            f"score (float32) and iscrowd (bool), got {objects}"
        )


def _defect_names(objects: Any) -> list[str]:
    category = objects.get("category") if isinstance(objects, dict) else None
    return list(getattr(getattr(category, "feature", None), "names", None) or [])


def category_names(dataset: Any) -> list[str]:
    """Names of the object categories, in label order."""
    return list(dataset.features["category"].names)


def defect_names(dataset: Any) -> list[str]:
    """Names of the classes of `objects`, in label order; empty where the data set has no labels."""
    return _defect_names((dataset.features or {}).get("objects"))

"""A plain folder of images as records."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from agssp.data.readers.folder_masks import PASSED_FOLDERS, match_masks
from agssp.data.readers.listing import Listing
from agssp.data.readers.records import ImageRecord, folder_category
from agssp.data.readers.report import ReadReport

NORMAL_FOLDERS = {
    "normal", "good", "ok", "io", "pass", "passed", "defect_free", "defect-free", "no_defect", "non_defective",
    "non-defective",
}  # fmt: skip
DEFECT_FOLDERS = {
    "defect", "defects", "defective", "bad", "ng", "nok", "nio", "fail", "failed", "faulty", "anomaly", "anomalous",
    "abnormal",
}  # fmt: skip


def read_image_folder(listing: Listing, category: str | None, report: ReadReport) -> list[ImageRecord]:
    """Read a plain folder of images.

    The category is the first folder below the root, or the root's own name where images lie flat, unless `category`
    says otherwise. A folder named `normal`, `good` or `ok` on the way, the root's own name included, makes an image
    normal; one named `defect`, `bad` or `ng` makes it not; otherwise it is unknown.

    Folders beside `good` are types of defect of one object, and no categories, as in MVTec's layout (`train/good`,
    `test/good`, `test/broken`), unless one of them is known to hold sound images of its own. Their images are not
    normal.

    Masks (see `find_masks`) are no images; each is given to the image that it is named like:
    `ground_truth/broken/000_mask.png` to `test/broken/000.png`, `Part0_label.bmp` to `Part0.jpg` beside it.

    Args:
        listing: of the folder.
        category: the object category of all images.
        report: gets a note of folders taken for types of defect, and of masks of no image or of several.
    """
    root = listing.root
    of_masks = listing.masks
    images = [Path(name) for name in listing.images if name not in of_masks]
    masks, left_out = match_masks(images, [Path(name) for name in listing.images if name in of_masks])
    telling = {path: [name for name in path.parts[:-1] if name.lower() not in PASSED_FOLDERS] for path in images}
    places = _one_object_places(telling.values())
    own = root.absolute().name.lower()
    records = []
    types = set()
    for path, folders in telling.items():
        names = list(map(str.lower, folders))
        # Below a place of one object no folder is a category.
        end = next((depth for depth in range(len(names)) if tuple(names[:depth]) in places), len(names))
        categories = [name for name in folders[:end] if name.lower() not in NORMAL_FOLDERS | DEFECT_FOLDERS]
        told = {own, *names}
        is_normal = True if NORMAL_FOLDERS & told else False if DEFECT_FOLDERS & told else None
        if is_normal is None and end < len(names):
            types.add(names[end])
            is_normal = False
        records.append(
            ImageRecord(
                path=root / path,
                image_id=path.as_posix(),
                category=category or (categories[0] if categories else folder_category(root)),
                is_normal=is_normal,
                mask=root / masks[path] if path in masks else None,
            )
        )
    stems = Counter(path.with_suffix("") for path in images)
    report.note_all("same_stem", [path.as_posix() for path in images if stems[path.with_suffix("")] > 1])
    report.note_all("defect_folders", sorted(types))
    report.note_all("unmatched_masks", [path.as_posix() for path in left_out])
    return records


def _one_object_places(paths: Iterable[Sequence[str]]) -> set[tuple[str, ...]]:
    """Where folders lie beside one of sound images and are no categories: none of them has sound images of its own.

    Args:
        paths: the folders of each image, those that tell nothing left out.

    Returns:
        The folders above, in lower case.
    """
    children: dict[tuple[str, ...], set[str]] = defaultdict(set)
    # Below a place, the names that occur on a path together with a folder of sound images.
    of_sound: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for path in {tuple(map(str.lower, folders)) for folders in paths}:
        for depth, name in enumerate(path):
            children[path[:depth]].add(name)
            if NORMAL_FOLDERS.intersection(path[depth:]):
                of_sound[path[:depth]].update(path[depth:])
    places = set()
    for place, names in children.items():
        beside = names - NORMAL_FOLDERS - DEFECT_FOLDERS
        if names & NORMAL_FOLDERS and beside and not beside & of_sound[place]:
            places.add(place)
    return places

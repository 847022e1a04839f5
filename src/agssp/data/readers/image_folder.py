"""A plain folder of images as records."""

from pathlib import Path

from agssp.data.readers.listing import find_images
from agssp.data.readers.records import PLAIN_FOLDERS, ImageRecord, folder_category

NORMAL_FOLDERS = {"normal", "good", "ok", "defect_free", "defect-free"}
DEFECT_FOLDERS = {"defect", "defects", "defective", "bad", "ng", "anomaly", "anomalous", "abnormal"}
MASK_FOLDERS = {"mask", "masks", "ground_truth"}


def read_image_folder(root: Path, category: str | None = None) -> list[ImageRecord]:
    """Read a plain folder of images.

    The category is the first folder below the root, or the root's own name where images lie flat, unless `category`
    says otherwise. A folder named `normal`, `good` or `ok` on the way, the root's own name included, makes an image
    normal; one named `defect`, `bad` or `ng` makes it not; otherwise it is unknown. Folders of masks are left out.
    """
    known = NORMAL_FOLDERS | DEFECT_FOLDERS | PLAIN_FOLDERS
    records = []
    for path in find_images(root):
        relative = path.relative_to(root)
        folders = relative.parts[:-1]
        on_the_way = {folder.lower() for folder in (root.absolute().name, *folders)}
        if MASK_FOLDERS.intersection(folder.lower() for folder in folders):
            continue
        named = [folder for folder in folders if folder.lower() not in known]
        is_normal = (
            True
            if NORMAL_FOLDERS.intersection(on_the_way)
            else False
            if DEFECT_FOLDERS.intersection(on_the_way)
            else None
        )
        records.append(
            ImageRecord(
                path=path,
                image_id=relative.as_posix(),
                category=category or (named[0] if named else folder_category(root)),
                is_normal=is_normal,
            )
        )
    return records

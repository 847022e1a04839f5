#!/usr/bin/env bash
# A turned box in CVAT's XML that Datumaro wrote is read by globox as if it were not turned.
# Expected: a reader of CVAT's form takes the attribute rotation into account, or refuses what it cannot hold.
# Seen: globox 2.9.0 takes xtl, ytl, xbr and ybr as they are, which for a turned box are the corners before it was
#   turned about its centre: a scratch that stands upright is read lying. datumaro 1.13.12 reads its own file right.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/python -m pip install -qq --disable-pip-version-check datumaro==1.13.12 globox==2.9.0
venv/bin/python - <<'PY'
from datumaro import Dataset, DatasetItem
from datumaro.components.annotation import RotatedBbox
from datumaro.components.media import Image
from PIL import Image as Picture

Picture.new("L", (80, 60), 90).save("a.png")


def dataset(*annotations):
    item = DatasetItem(id="a", media=Image.from_file(path="a.png"), annotations=list(annotations))
    return Dataset.from_iterable([item], categories=["scratch", "dent"])


from globox import AnnotationSet

dataset(RotatedBbox(40, 30, 50, 6, 90, label=0)).export("cvat", "cvat", save_media=True)
(item,) = Dataset.import_from("cvat", "cvat")
x, y, w, h = item.annotations[0].get_bbox()
own = [round(v, 2) for v in (x, y, x + w, y + h)]
(box,) = AnnotationSet.from_cvat("cvat/default.xml").all_boxes
other = [box.xmin, box.ymin, box.xmax, box.ymax]
print("corners: datumaro", own, "globox", other)
assert own == [37.0, 5.0, 43.0, 55.0]
assert other == [15.0, 27.0, 65.0, 33.0]
PY

"""Tiny folders in the layouts of the public sources, and what must come out of them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 16)  # width, height in px
# Two defects in a mask: their boxes, xywh px.
DEFECTS = [(3, 2, 5, 4), (12, 8, 6, 5)]
# Severstal's runs of the first of them: start from 1, down the columns of 16 px.
RUNS = " ".join(f"{x * SIZE[1] + 2 + 1} 4" for x in range(3, 8))


def picture(seed: int) -> Image.Image:
    """A grey image that no other seed gives."""
    noise = np.random.default_rng(seed).integers(60, 200, (SIZE[1], SIZE[0]), dtype=np.uint8)
    return Image.fromarray(noise)


def mask(value: int = 255, boxes=DEFECTS) -> Image.Image:
    """A mask with a filled rectangle a box."""
    values = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    for x, y, w, h in boxes:
        values[y : y + h, x : x + w] = value
    return Image.fromarray(values)


def voc(*names: str) -> str:
    """Pascal VOC with the defects' boxes."""
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>"
        for name, (x, y, w, h) in zip(names, DEFECTS, strict=False)
    )
    return f"<annotation>{objects}</annotation>"


def yolo(*classes: int) -> str:
    """YOLO lines with the defects' boxes."""
    width, height = SIZE
    return "\n".join(
        f"{label} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}"
        for label, (x, y, w, h) in zip(classes, DEFECTS, strict=False)
    )


def polygon(box) -> list[float]:
    """The corners of a box."""
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def labelme(name: str) -> str:
    """labelme's JSON with the first defect."""
    corners = polygon(DEFECTS[0])
    points = list(zip(corners[::2], corners[1::2], strict=True))
    return json.dumps({"shapes": [{"label": name, "points": points, "shape_type": "polygon"}], "imageData": None})


def coco(images: dict[str, list[str]], outlines: bool = True) -> str:
    """COCO's JSON: file name -> classes of its defects."""
    names = sorted({name for labels in images.values() for name in labels} or {"defect"})
    annotations = []
    for number, labels in enumerate(images.values()):
        for name, box in zip(labels, DEFECTS, strict=False):
            row = {"id": len(annotations), "image_id": number, "category_id": names.index(name), "bbox": list(box)}
            annotations.append({**row, "segmentation": [polygon(box)]} if outlines else row)
    return json.dumps(
        {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(images)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
            "annotations": annotations,
        }
    )


def _mvtec(category: str, suffix: str, good: str, bad: str, mask_name: str) -> dict:
    return {
        f"{category}/train/{good}/000{suffix}": picture,
        f"{category}/test/{good}/000{suffix}": picture,
        f"{category}/test/{bad}/001{suffix}": picture,
        f"{category}/ground_truth/{bad}/{mask_name}": mask(),
    }


# Source -> path of each file -> its content; `picture` stands for an image of its own.
FILES = {
    "aitex": {
        "Defect_images/0001_002_00.png": picture,
        "Defect_images/0044_019_04.png": picture,
        "Mask_images/0001_002_00_mask.png": mask(),
        "Mask_images/0044_019_04_mask1.png": mask(boxes=DEFECTS[:1]),
        "Mask_images/0044_019_04_mask2.png": mask(boxes=DEFECTS[1:]),
        "NODefect_images/2306881-210020u/0001_000_00.png": picture,
    },
    "apddd": {"JPEGImages/a.jpg": picture, "JPEGImages/b.jpg": picture, "Annotations/a.xml": voc("scratch", "dent"),
              "Annotations/b.xml": voc()},
    "bsd-cls": {"P_2.png": picture, "N_1.png": picture, "N_1_.png": picture},
    "bsdata": {"data/a.jpg": picture, "data/b.jpg": picture, "label/a.json": labelme("Pitting")},
    "btad": {**_mvtec("01", ".bmp", "ok", "ko", "001.png"), **_mvtec("03", ".bmp", "ok", "ko", "001.bmp")},
    "cr7-det": {"image/dents1.jpg": picture, "image/pit2.jpg": picture, "label/dents1.txt": yolo(1, 6),
                "label/pit2.txt": yolo(3)},
    "dagm2007": {
        "Class1/Train/0001.PNG": picture, "Class1/Train/0002.PNG": picture,
        "Class1/Train/Label/0002_label.PNG": mask(),
        "Class10/Test/0001.PNG": picture, "Class10/Test/Label/0001_label.PNG": mask(boxes=DEFECTS[:1]),
    },
    "dtd-synthetic": _mvtec("Blotchy_099", ".png", "good", "bad", "001_mask.png"),
    "fssd-12": {"Steel_Am/Images/Steel_Am_1.jpg": picture, "Steel_Am/GT/Steel_Am_1.png": mask(),
                "Steel_Am/Nd/Steel_Nd_1.jpg": picture},
    "kolektorsdd": {"kos01/Part0.jpg": picture, "kos01/Part0_label.bmp": mask(boxes=[]),
                    "kos01/Part1.jpg": picture, "kos01/Part1_label.bmp": mask(1)},
    "kolektorsdd2": {"train/10000.png": picture, "train/10000_GT.png": mask(boxes=[]),
                     "test/20000.png": picture, "test/20000_GT.png": mask()},
    "magnetic-tile": {
        "MT_Blowhole/Imgs/exp1_num_1.jpg": picture, "MT_Blowhole/Imgs/exp1_num_1.png": mask(),
        "MT_Free/Imgs/exp1_num_2.jpg": picture, "MT_Free/Imgs/exp1_num_2.png": mask(boxes=[]),
    },
    "mpdd": _mvtec("metal_plate", ".png", "good", "scratches", "001_mask.png"),
    "msd": {"good/g1.jpg": picture, "oil/Oil_1.jpg": picture, "stain/Sta_1.jpg": picture, "scratch/Scr_1.jpg": picture,
            "ground_truth_2/Oil_1.png": mask(1), "ground_truth_1/Sta_1.png": mask(3),
            "ground_truth_1/Scr_1.png": mask(2, DEFECTS[:1])},
    "mvtec-ad": {**_mvtec("grid", ".png", "good", "bent", "001_mask.png"),
                 **_mvtec("carpet", ".png", "good", "hole", "001_mask.png")},
    "neu-seg": {"images/training/000001.jpg": picture, "annotations/training/000001.png": mask(2),
                "images/test/000002.jpg": picture, "annotations/test/000002.png": mask(3, DEFECTS[1:])},
    "road-crack": {"images/a.jpg": picture, "masks/a.png": mask(),
                   "images/b.jpg": picture, "masks/b.png": mask(boxes=[])},
    "rsdds": {
        "Type-I RSDDs dataset/Rail surface images/rail_1.png": picture,
        "Type-I RSDDs dataset/GroundTruth/rail_1.png": mask(),
        "Type-II RSDDs dataset/Rail surface images/rail_1.png": picture,
        "Type-II RSDDs dataset/GroundTruth/rail_1.png": mask(boxes=DEFECTS[1:]),
    },
    "severstal": {
        "train_images/0002cc93b.jpg": picture, "train_images/00031f466.jpg": picture, "test_images/x.jpg": picture,
        "train.csv": f"ImageId,ClassId,EncodedPixels\n0002cc93b.jpg,3,{RUNS}\n",
    },
    "ssgd": {
        "images_lb101/a.jpg": picture, "images_lb101/b.jpg": picture, "images_lb201/a.jpg": picture,
        "images_lb201/c.jpg": picture,
        "annotations/lb101/train1.json": coco({"a.jpg": ["crack", "spot"]}, outlines=False),
        "annotations/lb101/val1.json": coco({"b.jpg": ["spot"]}, outlines=False),
        "annotations/lb201/train1.json": coco({"a.jpg": ["spot"]}, outlines=False),
        "annotations/lb201/val1.json": coco({"c.jpg": []}, outlines=False),
    },
    "casting-billet": {
        **{f"images/{number:02d}.jpg": picture for number in range(52)},
        "annotations/train.json": coco({f"{number:02d}.jpg": ["scratch", "weld slag"] for number in range(51)}),
        "annotations/val.json": coco({"51.jpg": []}),
    },
    "steel-pipe": {"images/a.jpg": picture, "images/b.jpg": picture,
                   "annotations/train_4cate.json": coco({"a.jpg": ["warp", "external fold"]}),
                   "annotations/val_4cate.json": coco({"b.jpg": []})},
    "gc10-det": {
        "1/img_01.jpg": picture, "2/img_02.jpg": picture, "10/img_10.jpg": picture,
        "3/img_02.jpg": picture, "4/img_no_label.jpg": picture,
        "lable/img_01.xml": voc("1_chongkong", "d"), "lable/img_02.xml": voc("2_hanfeng"),
        "lable/img_10.xml": voc("10_yaozhed", "10_yaozhe"),
    },
    "fd": {"images/a.jpg": picture, "images/b.jpg": picture,
           "annotations/train.json": coco({"a.jpg": ["hole"]}, outlines=False),
           "annotations/val.json": coco({"b.jpg": ["stain"]}, outlines=False)},
    "own-line": {"plate/normal/a.png": picture, "plate/b.png": picture, "strip/defect/c.png": picture},
}  # fmt: skip

TWO = DEFECTS
# Source -> image id -> split, category, is_normal, class of each box (None: not known), boxes, whether it has a mask.
ROWS = {
    "aitex": {
        "Defect_images/0001_002_00.png": ("train", "aitex", False, ["broken end"] * 2, TWO, True),
        "Defect_images/0044_019_04.png": ("train", "aitex", False, ["fuzzyball"] * 2, TWO, True),
        "NODefect_images/2306881-210020u/0001_000_00.png": ("train", "aitex", True, [], [], False),
    },
    "apddd": {
        "JPEGImages/a.jpg": ("train", "tianchi_aluminum", False, ["scratch", "dent"], TWO, None),
        "JPEGImages/b.jpg": ("train", "tianchi_aluminum", True, [], [], None),
    },
    "bsd-cls": {
        "N_1.png": ("train", "bsd_cls", True, None, [], None),
        "N_1_.png": ("train", "bsd_cls", True, None, [], None),
        "P_2.png": ("train", "bsd_cls", False, None, [], None),
    },
    "bsdata": {
        "data/a.jpg": ("train", "bsdata", False, ["pitting"], TWO[:1], True),
        "data/b.jpg": ("train", "bsdata", True, [], [], False),
    },
    "btad": {
        f"{product}/{place}": (split, f"btech_{product}", normal, [] if normal else ["defect"] * 2,
                               [] if normal else TWO, not normal)
        for product in ("01", "03")
        for place, split, normal in (
            ("train/ok/000.bmp", "train", True), ("test/ok/000.bmp", "test", True), ("test/ko/001.bmp", "test", False)
        )
    },
    "cr7-det": {
        "image/dents1.jpg": ("train", "cold_rolled_strip_steel", False, ["dent", "macular"], TWO, None),
        "image/pit2.jpg": ("train", "cold_rolled_strip_steel", False, ["pit"], TWO[:1], None),
    },
    "dagm2007": {
        "Class1/Train/0001.PNG": ("train", "dagm2007_class1", True, [], [], False),
        "Class1/Train/0002.PNG": ("train", "dagm2007_class1", False, ["defect"] * 2, TWO, True),
        "Class10/Test/0001.PNG": ("test", "dagm2007_class10", False, ["defect"], TWO[:1], True),
    },
    "dtd-synthetic": {
        "Blotchy_099/train/good/000.png": ("train", "blotchy", True, [], [], False),
        "Blotchy_099/test/good/000.png": ("test", "blotchy", True, [], [], False),
        "Blotchy_099/test/bad/001.png": ("test", "blotchy", False, ["defect"] * 2, TWO, True),
    },
    "fssd-12": {
        "Steel_Am/Images/Steel_Am_1.jpg": ("train", "hot_rolled_strip_steel", False, ["abrasion mask"] * 2, TWO, True),
        "Steel_Am/Nd/Steel_Nd_1.jpg": ("train", "hot_rolled_strip_steel", True, [], [], False),
    },
    "kolektorsdd": {
        "kos01/Part0.jpg": ("train", "kolektorsdd", True, [], [], True),
        "kos01/Part1.jpg": ("train", "kolektorsdd", False, ["defect"] * 2, TWO, True),
    },
    "kolektorsdd2": {
        "train/10000.png": ("train", "kolektorsdd2", True, [], [], True),
        "test/20000.png": ("test", "kolektorsdd2", False, ["defect"] * 2, TWO, True),
    },
    "magnetic-tile": {
        "MT_Blowhole/Imgs/exp1_num_1.jpg": ("train", "magnetic_tile", False, ["blowhole"] * 2, TWO, True),
        "MT_Free/Imgs/exp1_num_2.jpg": ("train", "magnetic_tile", True, [], [], False),
    },
    "mpdd": {
        "metal_plate/train/good/000.png": ("train", "metal_plate", True, [], [], False),
        "metal_plate/test/good/000.png": ("test", "metal_plate", True, [], [], False),
        "metal_plate/test/scratches/001.png": ("test", "metal_plate", False, ["scratches"] * 2, TWO, True),
    },
    "msd": {
        "good/g1.jpg": ("train", "msd", True, [], [], False),
        "oil/Oil_1.jpg": ("train", "msd", False, ["oil"] * 2, TWO, True),
        "stain/Sta_1.jpg": ("train", "msd", False, ["stain"] * 2, TWO, True),
        "scratch/Scr_1.jpg": ("train", "msd", False, ["scratch"], TWO[:1], True),
    },
    "mvtec-ad": {
        "grid/train/good/000.png": ("train", "grid", True, [], [], False),
        "grid/test/good/000.png": ("test", "grid", True, [], [], False),
        "grid/test/bent/001.png": ("test", "grid", False, ["bent"] * 2, TWO, True),
    },
    "neu-seg": {
        "images/training/000001.jpg": ("train", "neu_hot_rolled_strip", False, ["patches"] * 2, TWO, True),
        "images/test/000002.jpg": ("test", "neu_hot_rolled_strip", False, ["scratches"], TWO[1:], True),
    },
    "road-crack": {
        "images/a.jpg": ("train", "road_crack", False, ["crack"] * 2, TWO, True),
        "images/b.jpg": ("train", "road_crack", True, [], [], True),
    },
    "rsdds": {
        "Type-I RSDDs dataset/Rail surface images/rail_1.png":
            ("train", "rail_surface", False, ["defect"] * 2, TWO, True),
        "Type-II RSDDs dataset/Rail surface images/rail_1.png":
            ("train", "rail_surface", False, ["defect"], TWO[1:], True),
    },
    "severstal": {
        "train_images/0002cc93b.jpg": ("train", "severstal_steel", False, ["defect 3"], TWO[:1], True),
        "train_images/00031f466.jpg": ("train", "severstal_steel", True, [], [], False),
    },
    "ssgd": {
        "images_lb101/a.jpg": ("train", "ssgd_glasses", False, ["crack", "spot"], TWO, None),
        "images_lb101/b.jpg": ("validation", "ssgd_glasses", False, ["spot"], TWO[:1], None),
        "images_lb201/a.jpg": ("train", "ssgd_glasses", False, ["spot"], TWO[:1], None),
        "images_lb201/c.jpg": ("validation", "ssgd_glasses", True, [], [], None),
    },
    "casting-billet": {
        **{f"images/{number:02d}.jpg": ("train", "casting_billet", False, ["scratch", "weld slag"], TWO, True)
           for number in range(51)},
        "images/51.jpg": ("validation", "casting_billet", True, [], [], False),
    },
    "steel-pipe": {
        "images/a.jpg": ("train", "steel_pipe", False, ["warp", "external fold"], TWO, True),
        "images/b.jpg": ("validation", "steel_pipe", True, [], [], False),
    },
    "fd": {
        "images/a.jpg": ("train", "fabric", False, ["hole"], TWO[:1], None),
        "images/b.jpg": ("validation", "fabric", False, ["stain"], TWO[:1], None),
    },
    "own-line": {
        "plate/normal/a.png": ("train", "plate", True, None, [], None),
        "plate/b.png": ("train", "plate", None, None, [], None),
        "strip/defect/c.png": ("train", "strip", False, None, [], None),
    },
}  # fmt: skip


def write_fake(name: str, root: Path) -> Path:
    """Write the files of a source below `root/name`, in a folder of their own as archives have one."""
    folder = root / name / ("." if name in ("own-line", "bsd-cls") else "archive")
    for seed, (path, content) in enumerate(FILES[name].items()):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.write_text(content, encoding="utf-8")
        else:
            image = picture(seed + 1000 * sorted(FILES).index(name)) if content is picture else content
            image.save(file)
    return folder

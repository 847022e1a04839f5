"""Build a public data set, or your own line's, from its downloaded files as Parquet in the one schema.

agssp dataset build --list
agssp dataset build magnetic-tile --root downloads --output magnetic-tile
agssp dataset build gc10-mini --root downloads --seed 1 --output gc10-mini
agssp dataset build corpus --root downloads --output corpus
agssp dataset build own-line --root my-factory --licence cc-by-4.0 --output my-line

A source's files are looked for in ROOT/NAME, or in ROOT itself. Finished shards are never made again: after an
interruption the same command goes on. An image that cannot be read is skipped, counted and listed in skipped.jsonl;
--retry-skipped makes the shards anew that list some.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from agssp.command_lines import shell_command
from agssp.data.images import MAX_PIXELS
from agssp.errors import InputError
from agssp.output_folder import claim_output, keeps_outputs
from agssp.terminal import on_terminal

if TYPE_CHECKING:
    from agssp.sources.image import SourceImage
    from agssp.sources.plan import Plan
    from agssp.sources.table import Source

POSITIONAL = ("name",)


@dataclass
class DatasetBuildArguments:
    """Which data set, from which files."""

    flag_groups: ClassVar = {
        "input": ("name", "list", "root", "crowds", "max_pixels"),
        "output": ("output", "licence", "title", "seed", "shard_images", "retry_skipped"),
    }

    name: str | None = field(
        default=None, metadata={"help": "a source (--list shows them), `corpus` for all that belong to it, or own-line"}
    )
    root: str | None = field(default=None, metadata={"help": "folder of unpacked downloads, a subfolder a source"})
    output: str | None = field(default=None, metadata={"help": "folder of the data set"})
    list: bool = field(default=False, metadata={"help": "show all sources: licence, and what to download"})
    licence: str | None = field(
        default=None, metadata={"help": "licence of your own images (own-line); without it they may not be pushed"}
    )
    title: str | None = field(default=None, metadata={"help": "name of your own data set (own-line)"})
    crowds: str = field(
        default="auto",
        metadata={"help": "boxes with iscrowd 1 (own-line, COCO): auto, ignore or objects, as for `split`"},
    )
    seed: int = field(default=0, metadata={"help": "which of the possible splits and subsets"})
    max_pixels: int = field(default=MAX_PIXELS, metadata={"help": "larger images are skipped"})
    retry_skipped: bool = field(
        default=False,
        metadata={"help": "make finished shards anew that list skipped images, as where a share was not there"},
    )
    shard_images: int = field(default=1000, metadata={"help": "images a shard at most, the unit of work and upload"})


ARGUMENTS = (DatasetBuildArguments,)


@on_terminal
@keeps_outputs
def main(arguments: DatasetBuildArguments) -> None:
    """Finish the data set under the output folder, or list the sources."""
    from agssp.data.readers.crowds import check_crowds
    from agssp.sources.table import CORPUS, sources

    if arguments.list:
        for source in sources().values():
            print(describe(source))
        return
    for flag in ("name", "root", "output"):
        if getattr(arguments, flag) is None:
            raise InputError(f"dataset build: expected {'NAME' if flag == 'name' else '--' + flag}; see --help")
    if arguments.shard_images < 1:
        raise InputError(f"--shard-images {arguments.shard_images}: expected 1 or more")
    if arguments.crowds != "auto":
        check_crowds(arguments.crowds)
        if not has_crowds(str(arguments.name)):
            raise InputError(
                f"--crowds is for your own images (own-line) and sources whose labels are COCO files, not for "
                f"{arguments.name}"
            )
    root = Path(str(arguments.root))
    if not root.is_dir():
        raise InputError(f"--root {root}: no such folder")
    if arguments.name == CORPUS:
        build_corpus(arguments, root)
    else:
        build_source(arguments, root)


def describe(source: "Source") -> str:
    """What `--list` shows of a source."""
    images = f"{source.images or source.paper_images:,} images" if source.images or source.paper_images else "images"
    checked = (
        "" if source.layout_checked else "\n  layout not checked against the owner's files: " + source.layout_source
    )
    passed_on = "may be passed on" if source.redistribution else f"may not be passed on: {source.reason}"
    return (
        f"{source.name}: {source.title}, {images}{' (corpus)' if source.corpus else ''}\n"
        f"  licence {source.licence}; {passed_on}\n"
        f"  {source.home_page or 'no home page'}\n"
        f"  {source.download.strip()}{checked}"
    )


def has_crowds(name: str) -> bool:
    """Whether boxes of a source may be marked as crowds."""
    from agssp.sources.table import CORPUS, OWN_LINE, find_source

    if name in (CORPUS, OWN_LINE):
        return name == OWN_LINE
    source = find_source(name)
    return (find_source(source.subset["of"]) if source.subset else source).labels.get("format") == "coco"


def build_source(arguments: DatasetBuildArguments, root: Path) -> None:
    """Build one source, a subset of one, or a user's own folder."""
    from agssp.sources.plan import plan_source
    from agssp.sources.table import OWN_LINE, download_folder, find_source, missing_folder

    source = find_source(str(arguments.name))
    if source.name == OWN_LINE:
        source = own_line(source, arguments)
    elif arguments.licence or arguments.title:
        raise InputError(f"--licence and --title are those of your own images (own-line), not of {source.name}")
    folder = download_folder(source, root)
    if folder is None:
        raise missing_folder(source, root)
    images, reading = read_images(source, folder, arguments.crowds)
    plan = plan_source(source, images, arguments.seed, shard_images=arguments.shard_images)
    write(arguments, source.title, [source], plan, {source.name: reading})


def build_corpus(arguments: DatasetBuildArguments, root: Path) -> None:
    """Build all sources of the corpus that are found below the root as one unlabelled data set."""
    from agssp.sources.plan import plan_corpus
    from agssp.sources.table import download_folder, sources

    members = [source for source in sources().values() if source.corpus]
    parts: list[tuple[Source, list[SourceImage]]] = []
    readings = {}
    missing = []
    for source in members:
        folder = download_folder(source, root) if (root / source.name).is_dir() else None
        if folder is None:
            missing.append(source.name)
        else:
            images, readings[source.name] = read_images(source, folder)
            parts.append((source, images))
    if missing:
        print(f"{len(missing)} of the corpus' {len(members)} sources are not in {root}: {', '.join(missing)}")
    if not parts:
        raise InputError(
            f"--root {root}: holds no source of the corpus; expected unpacked downloads in folders named as "
            f"`agssp dataset build --list` shows them, such as {root / members[0].name}"
        )
    plan = plan_corpus(parts, shard_images=arguments.shard_images)
    title = f"Industrial surfaces of {len(parts)} public sources"
    write(arguments, title, [source for source, _ in parts], plan, readings)


def own_line(source: "Source", arguments: DatasetBuildArguments) -> "Source":
    """The entry of the table for a user's own images, with what the user says of them."""
    if arguments.licence:
        source = replace(source, licence=arguments.licence, redistribution=True, reason=None)
    return replace(source, title=arguments.title or source.title)


def read_images(source: "Source", folder: Path, crowds: str = "auto") -> "tuple[list[SourceImage], dict[str, Any]]":
    """All images of a source, and the record of what reading it found, changed and left out, which it says, too."""
    from agssp.sources.image import SourceReport
    from agssp.sources.layout import read_source_images

    report = SourceReport()
    images = read_source_images(source, folder, report, crowds)
    print(f"{source.name}: {len(images)} images in {folder}")
    for line in report.lines():
        print(f"  {line}")
    return images, report.as_json(folder)


def write(
    arguments: DatasetBuildArguments, title: str, members: "list[Source]", plan: "Plan", readings: dict[str, Any]
) -> None:
    """Write the missing shards, then what the data set holds."""
    from tqdm import tqdm

    from agssp.files import remove_leftovers, write_json, write_lines
    from agssp.sources.manifest import MANIFEST, SKIPPED, dataset_facts, source_facts
    from agssp.sources.shards import count_rows, is_done, skipped_images, skipped_of, write_shard

    output = Path(str(arguments.output))
    settings = {
        "name": arguments.name,
        "seed": arguments.seed,
        "max_pixels": arguments.max_pixels,
        "shard_images": arguments.shard_images,
        "sources": [source.name for source in members],
        "images": len(plan.images),
        "files": plan.key,
    }
    started = any((output / "data").glob("*.parquet"))
    if arguments.retry_skipped and not started:
        raise InputError(f"--retry-skipped: {output} holds no finished shard yet, so nothing was skipped")
    claim_output(output, "dataset build", settings, started=started)
    remove_leftovers(output / "data", alone=True)
    with tqdm(total=len(plan.images), desc=str(arguments.name), unit="image") as progress:
        for shard in plan.shards:
            if is_done(output, plan, shard) and not (arguments.retry_skipped and skipped_of(output, shard)):
                progress.update(len(shard.images))
                continue
            for _ in write_shard(output, plan, shard, arguments.max_pixels):
                progress.update()
    skipped = skipped_images(output, plan)
    write_lines(output / SKIPPED, skipped)
    counted = count_rows(output, plan)
    single = len(members) == 1 and arguments.name == members[0].name
    sources = [
        source_facts(source, counted["counts"]["images"] if single else counted["by_source"].get(source.name, 0))
        for source in members
    ]
    facts = dataset_facts(str(arguments.name), title, sources, plan, counted, len(skipped), arguments.seed, readings)
    write_json(output / MANIFEST, facts)
    say(output, facts, skipped)


def say(output: Path, facts: dict, skipped: list[dict[str, str]]) -> None:
    """Print what was built, and what comes next."""
    counts = facts["counts"]
    crowds = f"{counts['crowds']} crowd regions, " if counts["crowds"] else ""
    splits = ", ".join(f"{count} {name}" for name, count in facts["splits"].items())
    print(
        f"{counts['images']} images ({splits}) of {len(counts['categories'])} categories in {output}: "
        f"{counts['normal']} normal, {counts['defective']} defective, {counts['boxes']} boxes, "
        f"{crowds}{counts['masks']} masks"
    )
    if skipped:
        print(f"{len(skipped)} images skipped:")
        for entry in skipped[:5]:
            print(f"  {entry['reason']}")
    for source in facts["sources"]:
        paper = source["paper_images"]
        if paper is not None and paper != source["images"] and facts["name"] in (source["name"], "corpus"):
            print(f"{source['name']}: {source['images']} images, the paper counts {paper}")
        if not source["redistribution"]:
            print(f"{source['name']}: may not be passed on ({source['reason']})")
    print(f"next: {shell_command('dataset verify', output)}")

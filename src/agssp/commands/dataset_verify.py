"""Open every row of a built data set and name what is wrong with it.

agssp dataset verify magnetic-tile
agssp dataset verify a-few-of-them --partial

Status 0 if all is well, 2 if not.
"""

from dataclasses import dataclass, field
from pathlib import Path

from agssp.command_lines import maps_command
from agssp.data.images import MAX_PIXELS
from agssp.errors import InputError
from agssp.terminal import on_terminal

POSITIONAL = ("dataset",)


@dataclass
class DatasetVerifyArguments:
    """Which data set."""

    dataset: str = field(metadata={"help": "folder that `agssp dataset build` wrote"})
    partial: bool = field(
        default=False, metadata={"help": "a part of its sources is meant: do not compare with what their owners give"}
    )
    max_pixels: int = field(default=MAX_PIXELS, metadata={"help": "larger images are a problem"})


ARGUMENTS = (DatasetVerifyArguments,)


@on_terminal
def main(arguments: DatasetVerifyArguments) -> None:
    """Print every problem; an error if there is any."""
    from tqdm import tqdm

    from agssp.sources.manifest import read_manifest
    from agssp.sources.verification import count_problems, verify_rows

    folder = Path(arguments.dataset)
    manifest = read_manifest(folder)
    problems = list(count_problems(manifest, partial=arguments.partial))
    with tqdm(total=manifest["counts"]["images"], desc="rows", unit="image") as progress:
        for problem in verify_rows(folder, manifest, arguments.max_pixels):
            if problem is None:
                progress.update()
            else:
                problems.append(problem)
    for problem in problems:
        print(problem)
    if problems:
        raise InputError(f"{folder}: {len(problems)} problems; they are named above")
    for source in manifest["sources"]:
        paper = source.get("paper_images")
        if paper is not None and paper != source["images"]:
            print(f"{source['name']}: {source['images']} images; the paper counts {paper}")
    print(f"{folder}: good; {manifest['counts']['images']} rows")
    print(f"next: {maps_command(dataset=folder)}")

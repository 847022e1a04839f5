"""Check a file of knowledge about defects, or list what is packaged.

agssp knowledge check my_products.yaml --teacher ViT-B-16-plus-240
agssp knowledge list
"""

from dataclasses import dataclass, field

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.terminal import on_terminal

POSITIONAL = ("action", "file")
ACTIONS = ("check", "list")


@dataclass
class KnowledgeArguments:
    """What to do with which file."""

    action: str = field(metadata={"help": "check: read a file and measure its prompts; list: show what is packaged"})
    file: str | None = field(default=None, metadata={"help": "YAML file, or a packaged name such as metal or steel"})
    teacher: str = field(
        default="ViT-B-16-plus-240", metadata={"help": "open_clip model whose tokenizer measures the prompts"}
    )
    category: list[str] | None = field(default=None, metadata={"help": "categories that must be described"})


ARGUMENTS = (KnowledgeArguments,)


@on_terminal
def main(arguments: KnowledgeArguments) -> None:
    """Check one file or list the packaged ones."""
    from agssp.maps.knowledge_base import KnowledgeBase, packaged_files

    if arguments.action not in ACTIONS:
        raise InputError(f"knowledge {arguments.action}: expected one of {', '.join(ACTIONS)}")
    if arguments.action == "list":
        if arguments.file is not None:
            raise InputError(f"knowledge list {arguments.file}: takes no file; to look into one, `knowledge check` it")
        for name in packaged_files():
            print(f"{name}: {', '.join(KnowledgeBase.load(name).categories)}")
        print("metal: all of these together")
        print(f"next: {next_step('metal', arguments.teacher)}")
        return

    if arguments.file is None:
        raise InputError("knowledge check: name a YAML file, or a packaged one such as metal")
    from agssp.maps.tokens import prompt_counter

    knowledge = KnowledgeBase.load(arguments.file)
    for name in arguments.category or []:
        knowledge.for_category(name)
    count_tokens, limit = prompt_counter(arguments.teacher)
    longest = knowledge.check_length(count_tokens, limit)
    for name, entry in knowledge.categories.items():
        print(f"{name}: {entry.object}, {len(entry.normal)} normal phrases, {len(entry.defects)} defects")
    print(f"{arguments.file}: good; the longest prompt takes {longest} of the {limit} tokens of {arguments.teacher}")
    print(f"next: {next_step(arguments.file, arguments.teacher)}")


def next_step(knowledge: str, teacher: str) -> str:
    """The command that uses this knowledge; the name of an open_clip model needs the tag of its weights."""
    tag = None if teacher.startswith(("hf-hub:", "local-dir:")) else "TAG"
    return shell_command(
        "anomaly-maps", dataset="IMAGES", knowledge=knowledge, teacher=teacher, pretrained=tag, output="maps"
    )

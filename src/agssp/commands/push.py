"""Publish a backbone, a detector or KeAD on the Hugging Face Hub, with a card written from what is recorded.

    agssp push backbone me/steel-backbone
    agssp push my-detector me/my-detector --evaluation evaluation --private
    agssp push my-detector me/my-detector --card-only card

DIR is what `agssp pretrain-backbone`, `pretrain-detector`, `finetune` or `save_pretrained` wrote. Weights (safetensors
alone), config.json, preprocessor_config.json, run.json without this machine's paths, the card, its picture and results
go up in one commit, so that no half of it can be loaded; checkpoints, logs and pickles stay here. --card-only writes
card, picture and results into a folder and asks no Hub.
References of KeAD and run.json's list of skipped images name files of yours by their paths in their folder, which is
told before, or with --ids hash by digests of these. No image leaves the machine unless --examples shows some of the
corpus on a backbone's card. After an interruption the same command goes on.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from agssp.command_lines import shell_command
from agssp.errors import InputError
from agssp.output_folder import keeps_outputs
from agssp.terminal import on_terminal

POSITIONAL = ("folder", "repo_id")


@dataclass
class PushArguments:
    """What to publish, and where."""

    flag_groups: ClassVar = {
        "input": ("folder", "evaluation", "examples"),
        "output": ("repo_id", "private", "ids", "revision", "message", "replace", "card_only"),
    }

    folder: str = field(metadata={"help": "folder of a backbone, a detector or KeAD"})
    repo_id: str = field(metadata={"help": "OWNER/NAME on the Hub; made if it is not there"})
    ids: str = field(
        default="path",
        metadata={
            "help": "names of references and skipped images: path (as in their folder), or hash (a digest of that, the "
            "same every time)"
        },
    )
    private: bool = field(default=False, metadata={"help": "make the new repository visible to its owner alone"})
    revision: str | None = field(default=None, metadata={"help": "branch to push to; made if it is not there"})
    message: str | None = field(default=None, metadata={"help": "of the commit"})
    evaluation: list[str] | None = field(
        default=None, metadata={"help": "outputs of `agssp evaluate` on this folder: their results go on the card"}
    )
    examples: bool = field(
        default=False, metadata={"help": "show images of the corpus, with the backbone's attention, on its card"}
    )
    replace: bool = field(
        default=False, metadata={"help": "take the place of another model, or of other files, of this name"}
    )
    card_only: str | None = field(
        default=None, metadata={"help": "write the card into this folder instead, without asking the Hub"}
    )


ARGUMENTS = (PushArguments,)


@on_terminal
@keeps_outputs
def main(arguments: PushArguments) -> None:
    """Publish, or write the card alone."""
    from agssp.hub.publishing import collect, publish, say_names, write_card

    publication = collect(
        arguments.folder,
        arguments.repo_id,
        evaluations=arguments.evaluation or (),
        examples=arguments.examples,
        ids=arguments.ids,
    )
    if arguments.card_only is not None:
        say_names(publication)
        print(f"card in {write_card(publication, arguments.repo_id, arguments.card_only)}")
        return
    if publication.left_out:
        print(f"left out, as pickles run code when they are opened: {', '.join(publication.left_out)}")
    address = publish(
        publication,
        arguments.repo_id,
        private=arguments.private,
        revision=arguments.revision,
        message=arguments.message,
        replace=arguments.replace,
    )
    print(f"{', '.join(sorted(publication.files))}")
    print(f"published: {address}")
    print(f"next: {next_step(arguments.repo_id, publication.facts.kind, arguments.revision)}")


def next_step(repo_id: str, kind: str, revision: str | None = None) -> str:
    """What anybody can do with it now."""
    if revision is not None:
        # The commands read the main branch.
        opener = {"backbone": "AgsspBackbone", "detector": "AutoModelForObjectDetection", "kead": "KeAD"}[kind]
        return f'{opener}.from_pretrained("{repo_id}", revision="{revision}")'
    if kind == "detector":
        return shell_command("predict", repo_id, "IMAGES", output="found")
    if kind == "backbone":
        return shell_command("finetune", repo_id, dataset="LABELLED", output="my-detector")
    return f'KeAD.from_pretrained("{repo_id}")'


def check_before_training(training: Any) -> None:
    """Find out before a long training whether its result can be published, if that is asked for.

    Args:
        training: an `AgsspTrainingArguments`.

    Raises:
        InputError: it cannot.
    """
    from agssp.hub.publishing import check_target
    from agssp.processes import on_main_process

    if training.publish_to is not None:
        private, token = bool(training.hub_private_repo), training.hub_token
        revision = training.hub_revision
        on_main_process(lambda: check_target(training.publish_to, private=private, token=token, revision=revision))


def publish_result(output: str, training: Any) -> None:
    """Publish a finished training's folder, if that is asked for; on the main process alone."""
    from agssp.hub.publishing import collect, publish

    if training.publish_to is None or training.process_index != 0:
        return
    try:
        address = publish(
            collect(output, training.publish_to),
            training.publish_to,
            private=bool(training.hub_private_repo),
            revision=training.hub_revision,
            token=training.hub_token,
        )
    except InputError as error:
        command = shell_command(
            "push", output, training.publish_to, private=training.hub_private_repo or None,
            revision=training.hub_revision,
        )  # fmt: skip
        raise type(error)(f"{error}\nThe training is finished and kept; when that is mended: {command}") from error
    print(f"published: {address}")

"""What detectors cost: parameters, FLOPs, memory and images a second, each beside the same network in its home library.

    agssp profile scratch:yolov8n scratch:faster_rcnn scratch:dfine_s
    agssp profile my-detector backbone --image-size 320 --batch-sizes 1 16 --repeats 50 --output profile
    agssp profile scratch:faster_rcnn --backbone swin_base

A model is a detector's or backbone's folder or Hub id, a safetensors file, or scratch:DETECTOR. Both networks have the
same weights and take turns in the same run; the ratio is theirs to our seconds, round by round, above 1 where ours is
faster. OUTPUT/profile.json and OUTPUT/profile.md hold the table. `agssp finetune --help` lists the detectors.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agssp.errors import InputError
from agssp.files import write_json, write_text
from agssp.output_folder import claim_output, keeps_outputs
from agssp.terminal import on_terminal

POSITIONAL = ("models",)
END_TO_END_ROUNDS = 3


@dataclass
class ProfileArguments:
    """Which models, at which sizes."""

    models: list[str] = field(
        metadata={"help": "detectors or backbones: folders, Hub ids, safetensors files, scratch:DETECTOR"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "side of the square input in px; default: each model's own, from scratch 640"}
    )
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8], metadata={"help": "images in one forward pass"})
    repeats: int = field(default=10, metadata={"help": "timed passes of each network, after two that are not"})
    backbone: str | None = field(
        default=None, metadata={"help": "of scratch:DETECTOR: a timm name, or a backbone's folder or Hub id"}
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N"})
    output: str | None = field(default=None, metadata={"help": "folder for profile.json and profile.md"})


ARGUMENTS = (ProfileArguments,)


@on_terminal
@keeps_outputs
def main(arguments: ProfileArguments) -> list[dict[str, Any]]:
    """Run the command.

    Returns:
        What profile.json holds of each model.
    """
    from agssp.evaluation.inference import choose_device
    from agssp.evaluation.profiling import hardware
    from agssp.models.detection.start import SCRATCH
    from agssp.report.profile import markdown

    for flag, value in (("batch-sizes", min(arguments.batch_sizes, default=0)), ("repeats", arguments.repeats)):
        if value < 1:
            raise InputError(f"--{flag} {value}: expected 1 or more")
    if arguments.backbone is not None and not any(name.startswith(SCRATCH) for name in arguments.models):
        raise InputError(
            f"--backbone {arguments.backbone}: is for {SCRATCH}DETECTOR, of which none is given; {arguments.models[0]} "
            "has its own"
        )
    device = choose_device(arguments.device)
    # What cannot be opened should be known before the first is measured.
    opened = {name: open_model(name, arguments) for name in arguments.models}
    if arguments.output is not None:
        claim_output(arguments.output, "profile", {**asdict(arguments), "output": None})
    machine, results = hardware(device), []
    for name, (model, image_size) in opened.items():
        print(f"measuring {name} at {image_size} px ...", flush=True)
        results.append({"model": name, "image_size": image_size, **measure(model, image_size, arguments, device)})
        table = markdown(results, machine)
        if arguments.output is not None:
            # After each, so that an interruption leaves those before.
            output = Path(arguments.output)
            write_json(output / "profile.json", {"hardware": machine, "settings": asdict(arguments), "models": results})
            write_text(output / "profile.md", table)
    print(f"\n{table}")
    if arguments.output is not None:
        print(f"table in {Path(arguments.output) / 'profile.md'}")
    return results


def open_model(name: str, arguments: ProfileArguments) -> tuple[Any, int]:
    """A model in eval mode on the CPU, and the side in px of the input that it is measured with.

    Raises:
        InputError: there is no such model, or it cannot take such images.
    """
    import torch

    from agssp.evaluation.inference import load_detector
    from agssp.models.backbone.configuration_agssp_backbone import AgsspBackboneConfig
    from agssp.models.backbone.modeling_agssp_backbone import AgsspBackbone
    from agssp.models.detection import any_detector, catalogue
    from agssp.models.detection.start import SCRATCH

    if name.startswith(SCRATCH):
        given, config = arguments.backbone, None
        if given is not None:
            folder = Path(given).exists() or "/" in given
            config = AgsspBackbone.from_pretrained(given).config if folder else AgsspBackboneConfig(architecture=given)
        model = catalogue.build(name.removeprefix(SCRATCH), config, image_size=arguments.image_size or 640).eval()
    elif Path(name).is_file():
        model = load_detector(name)
    elif catalogue.model_type_at(name, f"a detector, a backbone or {SCRATCH}DETECTOR") == "agssp_backbone":
        model = AgsspBackbone.from_pretrained(name, dtype=torch.float32).eval()
    else:
        model = load_detector(name)
    if isinstance(model, AgsspBackbone):
        return model, arguments.image_size or model.config.image_size
    # Refuses sizes that a detector cannot take.
    processor = any_detector.image_processor(model, arguments.image_size)
    return model, processor.input_size[0]


def measure(model: Any, image_size: int, arguments: ProfileArguments, device: Any) -> dict[str, Any]:
    """Everything about one model and its home network.

    Returns:
        `home`: the home library, or why there is none; `networks`: `agssp` and, where there is one, `home`, each with
        `parameters`, `flops` and for each batch size `bytes` and `images_per_second`; `ratio`: for each batch size the
        quartiles of seconds there by seconds here; `end_to_end`: images a second of the whole prediction, None for a
        backbone.
    """
    import numpy as np
    import torch

    from agssp.evaluation.profiling import count_flops, count_parameters, peak_memory, time_in_turns
    from agssp.models.detection.home_networks import home_network

    home = home_network(model, image_size)
    networks = {"agssp": model} | ({} if home.network is None else {"home": home.network})
    torch.manual_seed(0)
    images = torch.rand(max(arguments.batch_sizes), 3, image_size, image_size)
    facts: dict[str, dict[str, Any]] = {}
    for side, network in networks.items():
        memory = {str(size): peak_memory(network, images[:size], device) for size in arguments.batch_sizes}
        facts[side] = {
            "parameters": count_parameters(network),
            "flops": count_flops(network.to(device), images[:1].to(device)),
            "bytes": memory,
            "images_per_second": {},
        }
    images, ratio = images.to(device), {}
    for size in arguments.batch_sizes:
        seconds = time_in_turns(networks, images[:size], arguments.repeats)
        for side, spent in seconds.items():
            facts[side]["images_per_second"][str(size)] = size / float(np.median(spent))
        if home.network is not None:
            ratio[str(size)] = np.quantile(seconds["home"] / seconds["agssp"], (0.25, 0.5, 0.75)).tolist()
    whole = None if model.config.model_type == "agssp_backbone" else end_to_end(model, image_size, arguments, device)
    return {"home": home.title, "networks": facts, "ratio": ratio, "end_to_end": whole}


def end_to_end(model: Any, image_size: int, arguments: ProfileArguments, device: Any) -> float:
    """Images a second that `agssp predict` finds boxes in, at the largest batch: the median of three rounds.

    The images are synthetic JPEGs, half as wide again as high; decoding, letterbox, network and post-processing count.
    """
    import io
    import statistics
    import time

    import numpy as np
    from PIL import Image

    from agssp.data.synthetic import SURFACES
    from agssp.evaluation.inference import detect

    surface = next(iter(SURFACES.values()))(image_size * 3 // 2, np.random.default_rng(0))[:image_size]
    file = io.BytesIO()
    Image.fromarray(surface).convert("RGB").save(file, "JPEG", quality=90)
    batch = max(arguments.batch_sizes)
    rows = [{"image": {"bytes": file.getvalue(), "path": None}, "image_id": str(index)} for index in range(2 * batch)]
    rates = []
    for _ in range(END_TO_END_ROUNDS):
        start = time.perf_counter()
        # Exhausted, for it works as it is asked.
        found = sum(
            1 for _ in detect(model, rows, threshold=0.25, image_size=image_size, batch_size=batch, device=device)
        )
        rates.append(found / (time.perf_counter() - start))
    return statistics.median(rates)

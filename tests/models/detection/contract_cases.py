"""What holds of every detector: labels to try it with, input that it refuses, and how it trains beside others."""

import torch

NAMES = {0: "scratch", 1: "pit", 2: "inclusion"}


def labels_of(*images):
    """transformers' labels from (class, box) pairs for each image."""
    return [
        {
            "class_labels": torch.tensor([label for label, _ in boxes], dtype=torch.int64),
            "boxes": torch.tensor([box for _, box in boxes], dtype=torch.float32).reshape(-1, 4),
        }
        for boxes in images
    ]


TWO_IMAGES = labels_of([(1, (0.5, 0.5, 0.4, 0.3)), (2, (0.25, 0.3, 0.2, 0.2))], [])

UNUSABLE = [
    ((64, 50), None, "multiples of 32"),
    ((64, 64), labels_of([], [], []), "labels for 3 images"),
    ((64, 64), labels_of([(3, (0.5, 0.5, 0.1, 0.1))], []), "3 labels"),
    ((64, 64), labels_of([(-1, (0.5, 0.5, 0.1, 0.1))], []), "3 labels"),
    ((64, 64), [{"class_labels": torch.tensor([1]), "boxes": torch.zeros(2, 4)}] * 2, r"\(n, 4\)"),
]
"""Size of two images, their labels, and what is said of them to a detector of three classes."""


def assert_trains_beside_others(model, folder):
    """Every parameter gets a gradient in every step, also without a box, or DDP's next step would fail.

    Give a model that was opened from a folder: transformers' loader makes parameters trainable that were not.
    """
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(model.train(), find_unused_parameters=False)
        for labels in (TWO_IMAGES, labels_of([], []), TWO_IMAGES):
            loss = parallel(torch.rand(2, 3, 64, 64), labels=labels).loss
            loss.backward()
        assert torch.isfinite(loss)
    finally:
        torch.distributed.destroy_process_group()


def assert_takes_over(model, backbone):
    """A detector has all values of a pretrained backbone, and prepares images as that expects."""
    report = model.load_backbone(backbone)
    state = backbone.state_dict()
    assert len(report.loaded) == len(state)
    assert all(torch.equal(value, state[name]) for name, value in model.backbone.state_dict().items())
    assert model.image_processor().image_mean == backbone.config.image_mean


def assert_backbone_stays_frozen(model):
    """Two steps leave a frozen backbone, its norms included, as it was."""
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(torch.rand(2, 3, 64, 64), TWO_IMAGES).loss.backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())

"""Draw on photographs: an anomaly map as heat, boxes with their class and score."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from agssp.errors import InputError

# Distinct for colour-blind readers, and between light and dark in brightness, so that they show on both pages.
COLOURS = ("#2f7ed8", "#e8871e", "#12a37f", "#d6569c", "#8b6cf0", "#c9a20a", "#d64545", "#4ba8c9", "#7a8798", "#9c6b3f")
TRUTH = "#2fbf71"
"""Colour of labelled boxes wherever they stand beside predicted ones."""


def tile(
    image: Image.Image | np.ndarray,
    *,
    anomaly_map: np.ndarray | None = None,
    value_range: tuple[float, float] | None = None,
    boxes: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    colours: Sequence[str] | str = COLOURS[1],
    dashed: Sequence[bool] | np.ndarray | None = None,
    side: int = 480,
    text_size: int | None = None,
) -> Image.Image:
    """One picture of a contact sheet: the image made to fit, its map as heat over it, its boxes drawn on top.

    Args:
        image: RGB image, PIL or uint8 (H, W, 3).
        anomaly_map: (g, g) on any grid, stretched over the image; None for none.
        value_range: see `heat_overlay`.
        boxes: (n, 4) left, top, right, bottom in pixels of `image`.
        scores: (n,), written beside the boxes.
        names: n class names, written beside the boxes.
        colours: one colour for all boxes, or one a box.
        dashed: (n,), which boxes have dashed lines: crowd regions, and what counts for nothing.
        side: width of the result in pixels; less where the result would be higher than 1.6 times that.
        text_size: height of the text in pixels, which the width of the lines follows; a 26th of `side` by default.
    """
    picture = to_pil(image)
    scale = min(side / picture.width, 1.6 * side / picture.height)
    size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
    picture = picture.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    if anomaly_map is not None:
        picture = heat_overlay(picture, anomaly_map, value_range)
    if boxes is not None and len(boxes):
        scaled = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale
        text_size = text_size or max(side // 26, 11)
        picture = draw_boxes(
            picture, scaled, scores=scores, names=names, colours=colours, dashed=dashed, text_size=text_size
        )
    return picture


def heat_overlay(
    image: Image.Image | np.ndarray, anomaly_map: np.ndarray, value_range: tuple[float, float] | None = None
) -> Image.Image:
    """Lay an anomaly map over its image: nothing where it is low, yellow heat where it is high.

    Args:
        image: RGB image, PIL or uint8 (H, W, 3).
        anomaly_map: (g, g), any grid and dtype; stretched over the image bilinearly. What is not finite stays clear.
        value_range: values drawn as no heat and as full heat. The map's own extremes by default: give one range to
            all pictures that a reader will compare.

    Returns:
        An RGB picture of the image's size.

    Raises:
        InputError: the map is not a table of numbers.
    """
    picture = to_pil(image)
    values = np.asarray(anomaly_map, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise InputError(f"anomaly map of shape {values.shape}: expected (rows, columns)")
    finite = np.isfinite(values)
    if value_range is None:
        value_range = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 1.0)
    low, high = value_range
    values = np.where(finite, (values - low) / max(high - low, 1e-12), 0).clip(0, 1).astype(np.float32)
    heat = np.asarray(Image.fromarray(values).resize(picture.size, Image.Resampling.BILINEAR))
    colour = matplotlib.colormaps["inferno"](0.25 + 0.72 * heat)[..., :3] * 255
    opacity = (0.85 * heat**0.8)[..., None]
    # Grey below the heat: the photograph's own colours must not be read as heat.
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    return Image.fromarray((grey * (1 - opacity) + colour * opacity).round().astype(np.uint8))


def mask_overlay(image: Image.Image | np.ndarray, masks: Mapping[str, np.ndarray]) -> Image.Image:
    """Colour parts of an image, the rest of which turns grey.

    Args:
        image: RGB image, PIL or uint8 (H, W, 3).
        masks: colour -> bool of any size, stretched over the image; the last wins where two overlap.

    Returns:
        An RGB picture of the image's size.
    """
    picture = to_pil(image)
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None]
    drawn = np.repeat(grey, 3, axis=2)
    for colour, mask in masks.items():
        stretched = Image.fromarray(np.asarray(mask, bool)).resize(picture.size, Image.Resampling.NEAREST)
        inside = np.asarray(stretched, bool)
        drawn[inside] = 0.45 * grey[inside] + 0.55 * np.array(ImageColor.getrgb(colour), np.float32)
    return Image.fromarray(drawn.round().astype(np.uint8))


def draw_boxes(
    image: Image.Image | np.ndarray,
    boxes: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    colours: Sequence[str] | str = COLOURS[1],
    dashed: Sequence[bool] | np.ndarray | None = None,
    text_size: int | None = None,
) -> Image.Image:
    """Draw boxes with a plate of text each, in a size that fits the picture.

    Args:
        image: RGB image, PIL or uint8 (H, W, 3).
        boxes: (n, 4) left, top, right, bottom in pixels.
        scores: (n,), written with two digits.
        names: n class names.
        colours: one colour for all boxes, or one a box.
        dashed: (n,), which boxes have dashed lines: crowd regions, and what counts for nothing.
        text_size: height of the text in pixels, which the width of the lines follows; by the picture's size if None.

    Returns:
        A copy with the boxes. Of overlapping boxes the first is on top, so pass the best first.
    """
    picture = to_pil(image).copy()
    draw = ImageDraw.Draw(picture, "RGBA")
    text_size = text_size or max(11, round(max(picture.size) / 40))
    width = max(2, round(text_size / 7))
    font = ImageFont.load_default(size=text_size)
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    for index in reversed(range(len(boxes))):
        colour = colours if isinstance(colours, str) else colours[index]
        left, top, right, bottom = boxes[index].tolist()
        # Drawn inside the picture and at least visible, however thin the box is.
        left, top = min(max(left, 0), picture.width - 2), min(max(top, 0), picture.height - 2)
        right, bottom = min(max(right, left + 1), picture.width - 1), min(max(bottom, top + 1), picture.height - 1)
        if dashed is not None and dashed[index]:
            _dashed_rectangle(draw, (left, top, right, bottom), colour, width)
        else:
            draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline="#00000060", width=width + 2)
            draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        words = [names[index]] if names is not None else []
        if scores is not None:
            words.append(f"{float(scores[index]):.2f}")
        if words:
            _plate(draw, " ".join(words), (left, top, bottom), picture.size, colour, font)
    return picture


def class_colours(labels: Sequence[int] | np.ndarray) -> list[str]:
    """The colour of each label; classes beyond the palette share colours."""
    return [COLOURS[int(label) % len(COLOURS)] for label in labels]


def to_pil(image: Image.Image | np.ndarray) -> Image.Image:
    """An RGB picture from a PIL image or a uint8 array (H, W, 3)."""
    if isinstance(image, Image.Image):
        return image if image.mode == "RGB" else image.convert("RGB")
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise InputError(f"image of dtype {array.dtype} and shape {array.shape}: expected uint8 (H, W, 3)")
    return Image.fromarray(array)


def _dashed_rectangle(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], colour: str, width: int
) -> None:
    """Dashes of four line widths along the sides, with gaps as long, from each corner on."""
    left, top, right, bottom = box
    dash = 4 * width
    for x in np.arange(left, right, 2 * dash):
        for y in (top, bottom - width + 1):
            draw.rectangle((x, y, min(x + dash, right), y + width - 1), fill=colour)
    for y in np.arange(top, bottom, 2 * dash):
        for x in (left, right - width + 1):
            draw.rectangle((x, y, x + width - 1, min(y + dash, bottom)), fill=colour)


def _plate(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float, float],
    size: tuple[int, int],
    colour: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write text on a plate above the box's corner, or below the box, or inside it, wherever there is room."""
    left, top, bottom = corner
    x0, y0, x1, y1 = draw.textbbox((0, 0), text, font=font)
    width, height = x1 - x0 + 6, y1 - y0 + 6
    left = max(min(left, size[0] - width), 0)
    y = top - height if top >= height else bottom + 1 if bottom + height < size[1] else top
    draw.rectangle((left, y, left + width, y + height), fill=colour)
    draw.text((left + 3 - x0, y + 3 - y0), text, fill="white", font=font)

"""The worst failures: which they are, and pictures of them."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from imaging_ft.augment.conditions import Setting
from imaging_ft.bundle import SEPARATOR, Bundle
from imaging_ft.data import Sample
from imaging_ft.image import read_image
from imaging_ft.inference.activation import Activation
from imaging_ft.inference.runner import Runner
from imaging_ft.preprocess import conform, to_levels
from imaging_ft.report.result import Failure
from imaging_ft.types import FloatImage, Ints, Levels, Pixels, Task, Track, silent

if TYPE_CHECKING:
    from imaging_ft.report.store import Predictions

MOST = 12
MOST_CLEAN = 4
"""So many of them at most are of images that no condition was laid over …"""
MOST_ALIKE = 2
"""… and so many of one class under one setting."""
NONE = "(none)"
"""What an image of a multi-label task shows, or is said to show, without any class."""

SIDE = 224
MOST_BYTES = 1_500_000
"""Of all pictures together."""
_QUALITIES = (80, 65, 50, 35, 20, 5)
_OPAQUE = 0.6
"""How much of the image the strongest evidence covers."""
_EDGE = 0.5
"""The evidence, of the strongest, that a line is drawn around."""


@dataclass(frozen=True)
class Pictures:
    """What one failure looked like, as data URIs of WebP images whose longer side is at most 224 pixels."""

    original: str
    changed: str | None
    """Under its condition; None where it is clean."""
    activation: str
    """What the model was given, in gray, with the evidence for what it said wrongly laid over."""


class _Mistake(NamedTuple):
    """A wrong answer; they sort by how sure it was, then by how little of the truth was in it, and stay in order."""

    doubt: float
    truth_probability: float
    setting: int
    image: int
    row: int
    alike: int


def worst_failures(predictions: "Predictions", *, most: int = MOST) -> list[Failure]:
    """Return the most confident mistakes, the surest first: no image twice, at most 4 clean, 2 of a class and setting.

    The probability is that of the class that was said. In a multi-label task it is that of the class that was said
    wrongly, or missed, most surely: p, or 1 − p where it was missed; the truth has the rest. Equal mistakes are taken
    in the order of the settings and images, so that the same predictions give the same list.
    """
    clean = [number for number, conditions in enumerate(predictions.settings) if not conditions]
    mistakes = sorted(
        mistake for number in range(len(predictions.settings)) for mistake in _mistakes(predictions, number, most)
    )
    chosen: list[_Mistake] = []
    images: set[int] = set()
    counts: dict[object, int] = {}
    for mistake in mistakes:
        kinds: list[tuple[object, int]] = [((mistake.setting, mistake.alike), MOST_ALIKE)]
        kinds += [("clean", MOST_CLEAN)] if mistake.setting in clean else []
        if mistake.image in images or any(counts.get(kind, 0) >= limit for kind, limit in kinds):
            continue
        if len(chosen) == most:
            break
        chosen.append(mistake)
        images.add(mistake.image)
        counts |= {kind: counts.get(kind, 0) + 1 for kind, _ in kinds}
    return [_failure(predictions, mistake) for mistake in chosen]


def pictures(
    failures: Sequence[Failure],
    *,
    samples: Sequence[Sample],
    settings: Sequence[Setting],
    runner: Runner,
    activation: Activation,
    seed: int,
    track: Track = silent,
) -> list[Pictures]:
    """Return the pictures of failures, in their order: each image is read again and put under its condition.

    Together they stay below 1.5 MB. Deep images are shown through the model's window. Raises ImageError where an image
    can't be read any more.
    """
    by_name = {sample.id: sample for sample in samples}
    by_conditions = {frozenset(setting.conditions.items()): setting for setting in settings}
    spec = runner.bundle.input
    room = MOST_BYTES // (3 * max(MOST, len(failures)))
    found: list[Pictures] = []
    for failure in track(failures, "drawing failures", len(failures)):
        sample = by_name[failure.image]
        original = conform(read_image(sample.path), spec)
        setting = by_conditions[frozenset(failure.conditions.items())]
        changed = setting.apply(original, sample_id=sample.id, seed=seed, window=spec.window)
        heat = activation.map(changed, _mistaken(failure, runner, changed))
        seen = to_levels(changed, spec)
        found.append(
            Pictures(
                original=_uri(_shown(to_levels(original, spec)), room),
                changed=_uri(_shown(seen), room) if failure.conditions else None,
                activation=_uri(_heated(seen, heat), room),
            )
        )
    return found


def _mistakes(predictions: "Predictions", number: int, most: int) -> Iterator[_Mistake]:
    """Yield the mistakes of one setting that may be chosen: of each class, the surest ones."""
    rows = predictions.of(number)
    wrong = np.flatnonzero(~rows.right)
    truth, said, probabilities = rows.truth[wrong], rows.said[wrong], rows.probabilities[wrong]
    every = np.arange(len(wrong))
    if predictions.task is Task.MULTILABEL:
        sure = np.where(said, probabilities, 1 - probabilities)
        label = np.where(truth != said, sure, -1).argmax(axis=1)
        probability = sure[every, label]
        rest = 1 - probability
        alike = 2 * label + truth[every, label]
    else:
        alike = truth.argmax(axis=1)
        probability = probabilities[every, said.argmax(axis=1)]
        rest = probabilities[every, alike]
    images = predictions.images_of(number)[wrong]
    for kind in np.unique(alike).tolist():
        own = np.flatnonzero(alike == kind)
        own = _surest(own, probability, most + MOST_ALIKE)
        for place in own[np.lexsort((images[own], rest[own], -probability[own]))][: most + MOST_ALIKE].tolist():
            doubt, share = -float(probability[place]), float(rest[place])
            yield _Mistake(doubt, share, number, int(images[place]), int(wrong[place]), kind)


def _surest(places: Ints, probability: np.ndarray, count: int) -> Ints:
    """Return those places that may be among the `count` most probable, equals included."""
    if len(places) <= count:
        return places
    least = np.partition(probability[places], -count)[-count]
    return places[probability[places] >= least]


def _failure(predictions: "Predictions", mistake: _Mistake) -> Failure:
    rows = predictions.of(mistake.setting)

    def text(shown: np.ndarray) -> str:
        return SEPARATOR.join(name for name, here in zip(predictions.labels, shown, strict=True) if here) or NONE

    return Failure(
        image=predictions.image_name(mistake.image),
        conditions=predictions.settings[mistake.setting],
        truth=text(rows.truth[mistake.row]),
        said=text(rows.said[mistake.row]),
        probability=-mistake.doubt,
        truth_probability=mistake.truth_probability,
    )


def _mistaken(failure: Failure, runner: Runner, pixels: Pixels) -> int:
    """Return the class whose evidence is shown: what was said; of several classes, the surest of the wrong answers."""
    bundle: Bundle = runner.bundle
    if bundle.task is not Task.MULTILABEL:
        return bundle.names.index(failure.said)
    truth, said = (set(text.split(SEPARATOR)) for text in (failure.truth, failure.said))
    probability = dict(zip(bundle.names, runner.predict([pixels])[0].tolist(), strict=True))
    wrong = [name for name in bundle.names if name in truth ^ said]
    return bundle.names.index(max(wrong, key=lambda name: probability[name] if name in said else 1 - probability[name]))


def _shown(levels: Levels) -> Levels:
    """Return an image at the size it is shown, in three channels; small ones in larger pixels."""
    height, width = levels.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    shown = np.asarray(cv2.resize(levels, size, interpolation=way), np.uint8).reshape(size[1], size[0], -1)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _heated(levels: Levels, heat: FloatImage) -> Levels:
    """Return an image in gray with heat [height, width] in [0, 1] laid over, and a line around where it is above half.

    The colours are inferno's, which rise evenly in lightness and so are told apart without seeing red or green; the
    line needs no colour at all.
    """
    shown = _shown(levels)
    height, width = shown.shape[:2]
    gray = cv2.cvtColor(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    way = cv2.INTER_AREA if width < heat.shape[1] else cv2.INTER_LINEAR
    strength = np.clip(np.asarray(cv2.resize(heat, (width, height), interpolation=way), np.float32), 0, 1)
    colours = cv2.applyColorMap(np.rint(strength * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    cover = _OPAQUE * strength[:, :, np.newaxis]
    mixed = np.rint(gray * (1 - cover) + colours * cover).astype(np.uint8)
    edges, _ = cv2.findContours((strength >= _EDGE).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for shade, thickness in ((0, 3), (255, 1)):
        cv2.drawContours(mixed, edges, -1, (shade, shade, shade), thickness, cv2.LINE_AA)
    return mixed


def _uri(image: Levels, room: int) -> str:
    """Return an image as a data URI of at most `room` characters: in the best quality that fits, else smaller."""
    text = ""
    for quality in _QUALITIES:
        _, data = cv2.imencode(".webp", np.ascontiguousarray(image[:, :, ::-1]), (cv2.IMWRITE_WEBP_QUALITY, quality))
        text = "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")
        if len(text) <= room:
            return text
    height, width = image.shape[:2]
    if max(height, width) == 1:
        return text
    half = max(1, width // 2), max(1, height // 2)
    return _uri(np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8), room)

"""What a training is refused for, or warned of, before its first step: what it starts from, and goes on with."""

from collections.abc import Sequence
from pathlib import Path

from imaging_ft.data import Prepared
from imaging_ft.errors import ConfigError, RunError
from imaging_ft.models.earlier import EarlierRun, architecture
from imaging_ft.models.factory import NONE, PRETRAINED
from imaging_ft.preprocess import InputSpec
from imaging_ft.training.job import Say
from imaging_ft.training.odds import Focus, read_focus
from imaging_ft.training.run import RunFolder
from imaging_ft.training.settings import TrainSettings
from imaging_ft.types import Json, Split


def refuse_own_input(out: Path, settings: TrainSettings) -> None:
    """Raise ConfigError where a run would replace the model that it starts from."""
    for option, start in (("--from", settings.from_run), ("weights", settings.weights)):
        if start in {None, PRETRAINED, NONE}:
            continue
        path = Path(str(start)).resolve()
        if out.resolve() in (path, *path.parents):
            raise ConfigError(f"{option} {start}: lies in --out {out}, which a new run replaces; choose another --out")


def as_earlier(settings: TrainSettings, earlier: EarlierRun | None, say: Say) -> TrainSettings:
    """Return the settings with the earlier run's backbone and size of images, where no others were asked for."""
    if earlier is None:
        return settings
    seen = earlier.input
    values: Json = {"model": earlier.model}
    if seen is not None and seen.height == seen.width:
        values |= {"size": seen.height, "resize": seen.resize}
    values = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    same = architecture(earlier.model) == architecture(settings.model)  # though a run writes it with its library
    taken = [
        f"{name} {value}"
        for name, value in values.items()
        if value != getattr(settings, name) and not (name == "model" and same)
    ]
    if taken:
        say(f"as the earlier run: {', '.join(taken)}")
    return settings.model_copy(update=values)


def compare_input(earlier: EarlierRun, spec: InputSpec, *, retain: bool, say: Say) -> None:
    """Say where images now reach an earlier model otherwise than before; raise ConfigError where it is to be kept."""
    seen = earlier.input
    if seen is None:
        return
    changed = [
        f"{name} {getattr(spec, name)} (it saw {getattr(seen, name)})"
        for name in ("channels", "dtype", "window", "height", "width", "resize", "mean", "std")
        if getattr(spec, name) != getattr(seen, name)
    ]
    if changed and retain:
        raise ConfigError(
            f"retain: images would reach the model of {earlier.path} otherwise than before: {', '.join(changed)};"
            " leave out --size, resize and --model, which are then its own, and keep to what its card says of images"
        )
    if changed:
        say(f"warning: images reach the earlier model otherwise than before: {', '.join(changed)}")


def focus_of(settings: TrainSettings, data: Prepared, families: Sequence[str], say: Say) -> Focus:
    """Return what a run begins with of an earlier round's report; say where that is of other images, or of test."""
    if settings.focus is None:
        return Focus({}, {})
    found = read_focus(Path(settings.focus), families)
    name, split = found.about["name"], found.about["split"]
    if found.about["fingerprint"] not in {None, data.fingerprint}:
        say(f"warning: focus: the report is of other images than these ({name})")
    if split not in {None, Split.VAL.value}:
        say(
            f"warning: focus: the report is of {name}'s {split} images, so this model's figures on them will be too"
            " good; choose on validation (report --split val)"
        )
    return found


def refuse_other_data(out: Path, data: Prepared) -> None:
    """Raise RunError where a run that is taken up again was of other images."""
    if not (out / "dataset.json").is_file():
        return
    recorded = RunFolder(out).read_json("dataset.json")
    if recorded.get("fingerprint") != data.fingerprint:
        raise RunError(
            f"{out}: was begun on other images than {data.card.name} now holds (fingerprints differ);"
            " restore them, or train anew with --overwrite"
        )


def refuse_other_start(out: Path, begun_with: Json) -> None:
    """Raise RunError where a run that is taken up again would start from other weights, or retain other images."""
    if not (out / "dataset.json").is_file():
        return
    recorded = RunFolder(out).read_json("dataset.json").get("begun_with", begun_with)
    for name, what in (("weights_sha256", "weights"), ("retained_fingerprint", "retained images")):
        if recorded.get(name) != begun_with[name]:
            raise RunError(
                f"{out}: was begun with other {what} than there now are; restore them, or train anew with --overwrite"
            )

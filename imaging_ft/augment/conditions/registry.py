"""Every condition by its name. The values are `docs/conditions.md`'s, with their sources."""

from imaging_ft.augment.conditions import angle, lighting
from imaging_ft.augment.conditions.base import Condition
from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.types import Axis

_DI = "deviation index (dB)"
_GAMMA = "exponent γ"
_STOPS = "stops of light"
_DEGREES = "degrees"

_ALL = (
    Condition("low_dose", Axis.LIGHTING, "lower dose", _DI, 0, (-2, -4, -6, -8, -10), lighting.low_dose),
    Condition("over_exposure", Axis.LIGHTING, "over-exposure", _DI, 0, (2, 4, 6, 8, 10), lighting.over_exposure),
    Condition(
        "tube_voltage", Axis.LIGHTING, "higher tube voltage", _GAMMA, 1, (0.9, 0.8, 0.7, 0.6, 0.5), lighting.power
    ),
    Condition("dense_shield", Axis.LIGHTING, "denser shielding", _GAMMA, 1, (1.25, 1.5, 2.0, 2.5, 3.0), lighting.power),
    Condition(
        "window_shift",
        Axis.LIGHTING,
        "display window off centre",
        "share of full scale",
        0,
        (0.05, 0.10, 0.15, 0.20, 0.25),
        lighting.window_shift,
    ),
    Condition(
        "bias_field",
        Axis.LIGHTING,
        "receive-field bias",
        "range of the coefficients",
        0,
        (0.2, 0.4, 0.6, 0.8, 1.0),
        lighting.bias_field,
    ),
    Condition("low_light", Axis.LIGHTING, "less light", _STOPS, 0, (1, 2, 3, 4, 5), lighting.low_light),
    Condition("back_light", Axis.LIGHTING, "light from behind", _STOPS, 0, (1, 2, 3, 4, 5), lighting.back_light),
    Condition(
        "glare", Axis.LIGHTING, "glare", "share of full scale added", 0, (0.2, 0.4, 0.6, 0.8, 1.0), lighting.glare
    ),
    Condition("roll", Axis.ANGLE, "in-plane turn", _DEGREES, 0, (5, 10, 15, 25, 40), angle.roll),
    Condition("position_roll", Axis.ANGLE, "patient tilted in the plane", _DEGREES, 0, (3, 6, 10, 15, 25), angle.roll),
    Condition("yaw", Axis.ANGLE, "seen from the side", _DEGREES, 0, (10, 20, 30, 40, 50), angle.yaw),
    Condition("pitch", Axis.ANGLE, "seen from above or below", _DEGREES, 0, (10, 20, 30, 40, 50), angle.pitch),
)

CONDITIONS: dict[str, Condition] = {condition.name: condition for condition in _ALL}


def condition(name: str, *, where: str) -> Condition:
    """Return the condition of a name; raises ConfigError naming `where` and the nearest one."""
    if name not in CONDITIONS:
        raise ConfigError(f"{where}: no condition named {name!r}; {suggest(name, sorted(CONDITIONS))}")
    return CONDITIONS[name]

"""Every condition by its name. The values are `docs/conditions.md`'s, with their sources."""

from imaging_ft.augment.conditions import angle, camera, lighting, optics, radiograph, scanner, ultrasound
from imaging_ft.augment.conditions.base import Condition
from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.types import Axis

_DI = "deviation index (dB)"
_GAMMA = "exponent γ"
_STOPS = "stops of light"
_DEGREES = "degrees"
_OF_FULL_SCALE = "share of full scale"
_OF_IMAGE = "share of the image"
_PIXELS = "pixels of 224 on the longer side"
_WEAK, _STRONG = (0.1, 0.2, 0.3, 0.4, 0.5), (0.2, 0.4, 0.6, 0.8, 1.0)

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
        _OF_FULL_SCALE,
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
    # Projection radiography.
    Condition("scatter", Axis.LIGHTING, "more scatter", "scattered share s", 0, _WEAK, radiograph.scatter),
    Condition(
        "grid_lines",
        Axis.SENSOR,
        "lines of a grid",
        "amplitude a",
        0,
        (0.02, 0.04, 0.06, 0.09, 0.12),
        radiograph.grid_lines,
    ),
    Condition(
        "collimation",
        Axis.SCENE,
        "collimator in the field",
        "share of a side",
        0,
        (0.03, 0.06, 0.1, 0.15, 0.2),
        radiograph.collimation,
    ),
    Condition(
        "foreign_objects",
        Axis.SCENE,
        "tubes, leads, buttons",
        "optical thickness μl",
        0,
        (0.2, 0.4, 0.7, 1.0, 1.5),
        radiograph.foreign_objects,
    ),
    Condition(
        "dead_columns",
        Axis.SENSOR,
        "dead detector columns",
        "columns of 224",
        0,
        (1, 2, 4, 8, 16),
        radiograph.dead_columns,
    ),
    # Slices.
    Condition(
        "rician_noise",
        Axis.SENSOR,
        "Rician noise",
        "σ (share of full scale)",
        0,
        (0.02, 0.04, 0.06, 0.09, 0.13),
        scanner.rician_noise,
    ),
    Condition(
        "gibbs", Axis.SENSOR, "k-space cut short", "share not measured", 0, (0.4, 0.5, 0.6, 0.7, 0.8), scanner.gibbs
    ),
    Condition("spike", Axis.SENSOR, "spike in k-space", _OF_FULL_SCALE, 0, (0.03, 0.06, 0.1, 0.15, 0.2), scanner.spike),
    Condition("motion_ghost", Axis.MOTION, "ghosts of motion", "share in ghosts a", 0, _WEAK, scanner.motion_ghost),
    Condition(
        "window_centre", Axis.LIGHTING, "CT window off centre", "HU", 0, (20, 40, 60, 80, 100), scanner.window_centre
    ),
    Condition(
        "window_width", Axis.LIGHTING, "display window too wide or narrow", "octaves", 0, _STRONG, scanner.window_width
    ),
    Condition(
        "dose_noise",
        Axis.LIGHTING,
        "lower CT dose",
        "share of the dose",
        1,
        (0.5, 0.25, 0.1, 0.05, 0.025),
        scanner.dose_noise,
    ),
    # Microscopes, endoscopes, fundus cameras.
    Condition("defocus", Axis.SENSOR, "out of focus", f"radius ({_PIXELS})", 0, (1, 2, 3, 4.5, 6), optics.defocus),
    Condition(
        "vignette",
        Axis.LIGHTING,
        "darker corners",
        "field angle of the corners (degrees)",
        0,
        (15, 25, 35, 45, 55),
        optics.vignette,
    ),
    Condition(
        "illumination_gradient",
        Axis.LIGHTING,
        "lit from one side",
        "gain g at the edges",
        0,
        (0.15, 0.3, 0.45, 0.6, 0.8),
        optics.illumination_gradient,
    ),
    Condition("haze", Axis.LIGHTING, "veil", "share of the light lost", 0, (0.1, 0.25, 0.4, 0.55, 0.7), optics.haze),
    Condition(
        "specular", Axis.LIGHTING, "mirrored light", _OF_IMAGE, 0, (0.005, 0.01, 0.02, 0.04, 0.06), optics.specular
    ),
    Condition("bubble", Axis.SCENE, "air bubbles", _OF_IMAGE, 0, (0.02, 0.04, 0.08, 0.12, 0.18), optics.bubble),
    Condition(
        "black_corner",
        Axis.SCENE,
        "round field",
        "share of the half diagonal lost",
        0,
        (0.1, 0.18, 0.26, 0.34, 0.42),
        optics.black_corner,
    ),
    Condition(
        "stain",
        Axis.SCENE,
        "stained elsewhere",
        "spread of a stain's density",
        0,
        (0.06, 0.12, 0.18, 0.25, 0.35),
        optics.stain,
        channels=(3,),
    ),
    # Ultrasound.
    Condition(
        "speckle",
        Axis.SENSOR,
        "more speckle",
        "σ (share of the signal)",
        0,
        (0.05, 0.1, 0.15, 0.2, 0.3),
        ultrasound.speckle,
    ),
    Condition(
        "depth_gain",
        Axis.LIGHTING,
        "wrong gain over depth",
        "gain g at top and bottom",
        0,
        (0.15, 0.3, 0.45, 0.6, 0.8),
        ultrasound.depth_gain,
    ),
    Condition(
        "acoustic_shadow",
        Axis.SCENE,
        "acoustic shadow",
        "attenuation (Np)",
        0,
        (0.4, 0.8, 1.2, 1.8, 2.5),
        ultrasound.acoustic_shadow,
    ),
    # Cameras.
    Condition(
        "night_infrared",
        Axis.LIGHTING,
        "infrared lamp at night",
        "fall-off 1/r₀²",
        0,
        (1, 1.5625, 2.78, 4.94, 11.1),
        camera.night_infrared,
    ),
    Condition(
        "shadow", Axis.LIGHTING, "cast shadow", "share of the light lost", 0, (0.2, 0.35, 0.5, 0.65, 0.8), camera.shadow
    ),
    Condition("fog", Axis.SCENE, "fog", "extinction 3/MOR (1/m)", 0, (0.003, 0.006, 0.015, 0.03, 0.06), camera.fog),
    Condition("motion", Axis.MOTION, "motion blur", f"length ({_PIXELS})", 0, (5, 9, 15, 21, 31), camera.motion),
    Condition("distance", Axis.SCENE, "further away", "scale", 1, (0.5, 0.25, 0.15, 0.1, 0.05), camera.distance),
    Condition("compression", Axis.SENSOR, "JPEG compression", "quality", 100, (50, 30, 15, 10, 7), camera.compression),
    Condition(
        "occlusion", Axis.SCENE, "something in the way", _OF_IMAGE, 0, (0.05, 0.1, 0.15, 0.2, 0.3), camera.occlusion
    ),
)

CONDITIONS: dict[str, Condition] = {condition.name: condition for condition in _ALL}


def condition(name: str, *, where: str) -> Condition:
    """Return the condition of a name; raises ConfigError naming `where` and the nearest one."""
    if name not in CONDITIONS:
        raise ConfigError(f"{where}: no condition named {name!r}; {suggest(name, sorted(CONDITIONS))}")
    return CONDITIONS[name]

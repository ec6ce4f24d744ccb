"""The sample data: its physics, its splits, and that it is written again byte for byte."""

import csv
import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels.processing import apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian

from imaging_ft.catalog import find
from imaging_ft.config import read_yaml
from imaging_ft.data.sample import baggage, chest, write, write_samples
from imaging_ft.data.sample.clutter import METAL, OTHER
from imaging_ft.data.sample.geometry import Cylinder, Ellipsoid, Prism, Solid, box, rod, rotation
from imaging_ft.data.sample.scanner import LEVELS, Scanner
from imaging_ft.data.sample.threats import THREATS
from imaging_ft.errors import DataError

COMMITTED = Path(__file__).parents[2] / "sample_data"
FAR = np.array([0.0, 0.0, -50.0])
STILL = np.eye(3)
NARROW = Scanner(pixels=64, pitch=0.25, source=2000.0, detector=2001.0, photons=1000)
"""So far from its source that the rays are as good as parallel."""


def path_towards(solid: Solid, x: float, y: float, z: float) -> float:
    ray = np.array([x, y, z]) - FAR
    return float(solid.path(FAR, (ray / np.sqrt((ray**2).sum()))[:, None])[0])


def manifest(part: str) -> list[dict[str, str]]:
    with (COMMITTED / part / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_ray_through_the_centre_of_a_sphere_is_as_long_as_its_diameter() -> None:
    assert path_towards(Solid(Ellipsoid(3, 3, 3), 1.0), 0, 0, 0) == pytest.approx(6)


def test_a_ray_off_the_centre_of_a_sphere_follows_the_chord_formula() -> None:
    sphere = Solid(Ellipsoid(3, 3, 3), 1.0, (0.0, 0.0, -50.0 + 1e4))
    assert path_towards(sphere, 2e-4 * 50, 0, 0) == pytest.approx(2 * np.sqrt(9 - 4), rel=1e-4)


def test_the_diagonal_of_a_turned_box_has_its_known_length() -> None:
    turned = rotation(yaw=45)
    assert path_towards(Solid(box(4, 9, 4), 1.0, turn=turned), 0, 0, 0) == pytest.approx(4 * np.sqrt(2))


def test_a_cylinder_is_crossed_over_its_diameter_its_length_and_not_beyond_its_ends() -> None:
    lying = rod((-5, 0, 0), (5, 0, 0), 1.5, 1.0)
    assert path_towards(lying, 0, 0, 0) == pytest.approx(3)
    assert path_towards(Solid(Cylinder(1.5, 2, 5), 1.0), 0, 0, 0) == pytest.approx(10)
    assert path_towards(lying, 5.3, 0, 0) == 0
    assert path_towards(lying, 0, 1.6, 0) == 0


def test_a_prism_is_as_thick_as_its_extrusion_inside_its_polygon_only() -> None:
    triangle = Solid(Prism(((0, 0), (4, 0), (0, 4)), 0.5), 1.0)
    assert path_towards(triangle, 1, 1, 0) == pytest.approx(1, rel=2e-3)
    assert path_towards(triangle, 3, 3, 0) == 0


def test_only_the_part_within_another_solid_counts() -> None:
    outer = Solid(Ellipsoid(2, 2, 2), 0.0, (0.0, 0.0, 2.0))
    assert path_towards(Solid(Ellipsoid(2, 2, 2), 1.0, within=outer), 0, 0, 0) == pytest.approx(2)
    twice = Solid(box(1, 1, 9), 1.0, within=Solid(Ellipsoid(2, 2, 2), 0.0, within=outer))
    assert path_towards(twice, 0, 0, 0) == pytest.approx(2)


def test_air_lets_everything_through() -> None:
    assert (NARROW.transmission([], STILL) == 1).all()


def test_transmission_follows_the_law_of_beer_and_lambert() -> None:
    slab = [Solid(box(99, 99, 2), 0.3), Solid(box(99, 99, 1), -0.3)]
    np.testing.assert_allclose(NARROW.transmission(slab, STILL), np.exp(-0.3 * 1), rtol=1e-4)


def test_a_pixel_on_an_edge_averages_intensities() -> None:
    half_plane = [Solid(box(20, 99, 10), 5.0, (10.0 + NARROW.pitch / 2, 0.0, 0.0))]
    row = NARROW.transmission(half_plane, STILL)[32]
    assert row[31] == pytest.approx(1)
    assert row[32] == pytest.approx(0.5, abs=1e-3)
    assert row[33] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("yaw", [0, 20, 35])
def test_yaw_turns_the_scene_as_a_rigid_body(yaw: int) -> None:
    columns = (NARROW.depth([Solid(box(8, 4, 3), 1.0)], rotation(yaw=yaw)) > 0).any(axis=0)
    width = columns.sum() * NARROW.pitch / 2
    expected = 8 * np.cos(np.radians(yaw)) + 3 * np.sin(np.radians(yaw))
    assert width == pytest.approx(expected, abs=NARROW.pitch)


def test_turning_keeps_the_mass_that_the_beam_meets() -> None:
    solids = [Solid(box(5, 3, 2), 0.7, (1.0, 2.0, -1.0)), Solid(Ellipsoid(1, 2, 3), 0.4)]
    mass = 0.7 * 30 + 0.4 * 4 / 3 * np.pi * 6
    for turn in (STILL, rotation(yaw=35, pitch=-25, roll=30)):
        assert NARROW.depth(solids, turn).sum() * (NARROW.pitch / 2) ** 2 == pytest.approx(mass, rel=0.02)


def test_looking_only_into_the_shadow_of_a_solid_misses_nothing() -> None:
    scanner = baggage.SCANNERS["B"]
    turn = rotation(yaw=35, pitch=-25, roll=30)
    solid = baggage.suitcase("bag-001", "handgun")[0]
    everywhere = Solid(solid.shape, solid.mu, within=Solid(Ellipsoid(60, 60, 60), 0.0))
    seen = scanner.depth([everywhere], turn)
    around = scanner.depth([Solid(Ellipsoid(60, 60, 60), solid.mu, within=Solid(solid.shape, 0.0))], turn)
    np.testing.assert_allclose(seen, around, atol=1e-12)


@pytest.mark.parametrize("exposure", [0.25, 1.0, 2.0])
def test_counts_have_the_mean_and_the_variance_of_poisson(exposure: float) -> None:
    counts = NARROW.counts(np.full((400, 400), 0.4), exposure=exposure, noise=np.random.RandomState(1))
    expected = NARROW.photons * exposure * 0.4
    assert counts.mean() == pytest.approx(expected, rel=0.005)
    assert counts.var() == pytest.approx(expected, rel=0.02)


def test_air_at_nominal_exposure_nearly_fills_the_range_and_twice_that_saturates() -> None:
    for scanner in baggage.SCANNERS.values():
        nominal = np.full((4, 4), round(scanner.photons))
        assert 0.84 < scanner.linear(nominal).mean() / LEVELS < 0.94
        assert (scanner.linear(2 * nominal) == LEVELS).all()


@pytest.mark.parametrize("thing", [*THREATS.values(), *METAL.values(), *OTHER.values()])
def test_no_hole_is_deeper_than_what_it_is_cut_from(thing) -> None:
    solids = thing(np.random.RandomState(3))
    wide = Scanner(pixels=96, pitch=0.35, source=85, detector=95, photons=1)
    for solid in solids:
        assert solid.path(np.array([0.0, 0.0, -85.0]), np.array([[0.0], [0.0], [1.0]]))[0] >= 0
    raw = sum(solid.mu * volume(solid) for solid in solids)
    assert raw > 0
    assert wide.depth(solids, STILL).max() > 0.1


def volume(solid: Solid) -> float:
    """The volume in cm³: exact but for a prism, whose polygon is summed by the shoelace formula."""
    shape = solid.shape
    if isinstance(shape, Ellipsoid):
        return 4 / 3 * np.pi * shape.a * shape.b * shape.c
    if isinstance(shape, Cylinder):
        return 2 * np.pi * shape.a * shape.b * shape.half
    assert isinstance(shape, Prism)
    corners = shape.corners
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1], strict=True)) / 2
    assert area > 0, "the corners turn the wrong way"
    return 2 * area * shape.half


def test_every_view_of_a_suitcase_shows_the_same_things() -> None:
    one, two = (baggage.suitcase("bag-003", "star") for _ in range(2))
    assert [solid.centre for solid in one] == [solid.centre for solid in two]


def test_writing_the_samples_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    written = write_samples(tmp_path)
    names = {path.relative_to(tmp_path) for path in written}
    assert names == {path.relative_to(COMMITTED) for path in COMMITTED.rglob("*") if path.is_file()}
    assert len(written) == len(names)
    changed = [str(name) for name in sorted(names) if (tmp_path / name).read_bytes() != (COMMITTED / name).read_bytes()]
    assert changed == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(DataError, match=r"taken.*can't be written"):
        write_samples(tmp_path / "taken")


def test_the_samples_stay_small() -> None:
    assert sum(path.stat().st_size for path in COMMITTED.rglob("*") if path.is_file()) <= 8_000_000


@pytest.mark.parametrize(("part", "columns"), [("baggage", baggage.COLUMNS), ("chest", chest.COLUMNS)])
def test_a_group_is_never_on_two_splits_and_each_split_has_every_label(part: str, columns: tuple[str, ...]) -> None:
    rows = manifest(part)
    assert tuple(rows[0]) == columns
    groups = {split: {row["group"] for row in rows if row["split"] == split} for split in ("train", "val", "test")}
    for one, two in combinations(groups, 2):
        assert not groups[one] & groups[two]
    labels = {row["label"] for row in rows}
    for split in groups:
        assert {row["label"] for row in rows if row["split"] == split} == labels
    assert set(read_yaml(find(part, on="datasets"))["positive"]) == labels - {"none"}


def test_both_sites_and_both_labels_stand_in_each_chest_split() -> None:
    cells = {(row["split"], row["site"], row["label"]) for row in manifest("chest")}
    assert len(cells) == 3 * 2 * 2


def test_a_bag_without_a_threat_is_no_brighter_than_the_others() -> None:
    mean: dict[str, list[float]] = {}
    for view in baggage.views():
        if view.number == 1:
            scanner = Scanner(pixels=32, pitch=1.6, source=85, detector=115, photons=1)
            clear = scanner.transmission(baggage.suitcase(view.group, view.label), STILL).mean()
            mean.setdefault(view.label, []).append(float(clear))
    spread = {label: (min(values), max(values)) for label, values in mean.items()}
    for low, high in spread.values():
        assert low < spread["none"][1]
        assert high > spread["none"][0]


def test_baggage_images_are_sixteen_bit_and_use_their_upper_twelve_bits() -> None:
    rows = manifest("baggage")
    for row in rows[::40]:
        with Image.open(COMMITTED / "baggage" / row["image"]) as image:
            assert image.mode == "I;16"
            pixels = np.asarray(image)
        assert pixels.shape == (128, 128)
        assert (pixels % 16 == 0).all()


def test_a_png_decodes_to_what_was_encoded() -> None:
    pixels = np.random.RandomState(0).randint(0, 1 << 16, (37, 53)).astype(np.uint16)
    with Image.open(io.BytesIO(write.png(pixels))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_low_exposure_is_dark_and_noisy_in_the_committed_images() -> None:
    rows = [row for row in manifest("baggage") if row["scanner"] == "A"]
    corner = {
        exposure: np.concatenate([pixels_of(row)[:8, :8].ravel() for row in rows if row["exposure"] == exposure][:6])
        for exposure in ("0.25", "1.0")
    }
    dark, bright = (values.astype(float) for values in corner.values())
    assert np.median(dark) / np.median(bright) == pytest.approx(0.25, abs=0.05)


def pixels_of(row: dict[str, str]) -> np.ndarray:
    with Image.open(COMMITTED / "baggage" / row["image"]) as image:
        return np.asarray(image)


@pytest.mark.parametrize("row", manifest("chest")[::9], ids=lambda row: row["image"])
def test_chest_files_are_digital_x_ray_images_that_display_bone_bright(row: dict[str, str]) -> None:
    image = pydicom.dcmread(COMMITTED / "chest" / row["image"])
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert image.SOPClassUID == write.DIGITAL_X_RAY_FOR_PRESENTATION
    assert (image.BitsStored, image.BitsAllocated, image.PixelRepresentation) == (12, 16, 0)
    assert (image.PatientID, image.PatientSex, image.PatientAge) == (
        row["group"],
        row["sex"],
        f"{int(row['age']):03d}Y",
    )
    inverted = row["site"] == "north"
    assert image.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
    assert image.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
    shown = apply_voi_lut(image.pixel_array, image).astype(float) / LEVELS
    shown = 1 - shown if inverted else shown
    spine, lung, air = (
        shown[50:70, 54:58].mean(),
        np.percentile(shown[40:60, 25:90], 10),
        shown[:6, :6].mean(),
    )
    assert spine > lung + 0.2
    assert spine > air + 0.3


def test_a_film_at_the_other_site_shows_the_same_picture_after_inversion() -> None:
    low, wide = write.WINDOW["south"]
    inverse, same = write.WINDOW["north"]
    stored = np.arange(LEVELS + 1)
    south = np.clip((stored - (low - 0.5)) / (wide - 1) + 0.5, 0, 1)
    north = np.clip((LEVELS - stored - (inverse - 0.5)) / (same - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(1 - north, south, atol=1e-12)


def test_uids_are_valid_fixed_and_all_different() -> None:
    films = list(chest.films())
    uids = {write.uid(kind, film.name) for kind in ("instance", "series", "study") for film in films}
    assert len(uids) == 3 * len(films)
    assert all(uid.is_valid for uid in uids)
    assert write.uid("implementation") == "2.25.190926394180303467586755390890136101220"

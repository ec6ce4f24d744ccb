"""The run of a MONAI bundle: from a folder of stored images to probabilities, in MONAI's transforms and Pillow."""

from imaging_ft.export.monai_network import Item
from imaging_ft.preprocess import InputSpec

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")

_PLACES: Item = {
    "imports": ["$import pathlib", "$from PIL import Image", "$from PIL import ImageOps"],
    "bundle_root": ".",
    "dataset_dir": "$@bundle_root + '/images'",
    "output_dir": "$@bundle_root + '/eval'",
    "ckpt_path": "$@bundle_root + '/models/model.pt'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
}
_RUN: Item = {
    "network": "$@network_def.to(@device).eval().requires_grad_(False)",
    "datalist": "$sorted(str(path) for path in pathlib.Path(@dataset_dir).rglob('*')"
    f" if path.suffix.lower() in {SUFFIXES})",
    "dataset": {
        "_target_": "Dataset",
        "data": "$[{'image': path, 'meta': {'filename_or_obj': path}} for path in @datalist]",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 16},
    "inferer": {"_target_": "SimpleInferer"},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "SaveClassificationd", "keys": "pred", "meta_keys": "meta", "output_dir": "@output_dir"}
        ],
    },
    # MONAI's own engine, for programs that ask for it; it needs pytorch-ignite, so the run below does without.
    "handlers": [{"_target_": "CheckpointLoader", "load_path": "@ckpt_path", "load_dict": {"model": "@network"}}],
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": "@handlers",
    },
    "run": [
        "$print(len(@datalist), 'images in', @dataset_dir)",
        "$@network.load_state_dict(torch.load(@ckpt_path, map_location=@device, weights_only=True))",
        "$[@postprocessing(item) for batch in @dataloader for item in monai.data.decollate_batch("
        "{**batch, 'pred': @inferer(batch['image'].to(@device), @network)})]",
    ],
}


def inference(spec: InputSpec, network: Item) -> Item:
    """Return `inference.json` of a model with that input contract and those items of its network."""
    return {**_PLACES, **network, **_preprocessing(spec), **_RUN}


def _preprocessing(spec: InputSpec) -> Item:
    """Return how a stored image becomes levels: window, then Pillow's resize of integers, as `reference_levels` does.

    MONAI's own `Resized` interpolates floats after a Gaussian, which is another filter: it moves probabilities. Pillow
    has no colour images of 16 bits, so those come in 8, and their window is that of 8.
    """
    size = [spec.height, spec.width]
    transforms: list[Item] = [
        # MONAI's readers give columns before rows unless they're told otherwise.
        {"_target_": "LoadImaged", "reader": "PILReader", "reverse_indexing": False, "converter": _converter(spec)},
        {"_target_": "EnsureChannelFirstd"},
        {"_target_": "EnsureTyped", "track_meta": False},
    ]
    if spec.dtype == "uint16":
        low, high = (value / (1 if spec.channels == 1 else 257) for value in spec.window or (0, spec.full_scale))
        window = {"a_min": low, "a_max": high, "b_min": 0, "b_max": 255, "clip": True}
        transforms.append({"_target_": "ScaleIntensityRanged", **window})
    inner = str(tuple(size))
    if spec.resize == "letterbox":
        inner = (
            "(lambda h, w: (max(1, (h * {1} + w // 2) // w), {1}) if {1} * h <= {0} * w"
            " else ({0}, max(1, (w * {0} + h // 2) // h)))(*x.shape[1:])"
        ).format(*size)
    # Rows before columns, always: Pillow would begin with the columns of some tall images, and round otherwise.
    resized = "Image.fromarray(c.numpy()).resize((w, len(c)), 2).resize((w, h), 2)"  # 2: bilinear
    stacked = f"np.stack([np.asarray({resized}, np.float32) for c in x.round().byte()])"
    transforms.append(
        {"_target_": "Lambdad", "func": f"$lambda x: (lambda h, w: torch.from_numpy({stacked}))(*{inner})"}
    )
    if spec.resize == "letterbox":
        transforms.append({"_target_": "SpatialPadd", "spatial_size": size})
    return {"preprocessing": {"_target_": "Compose", "transforms": [{**each, "keys": "image"} for each in transforms]}}


def _converter(spec: InputSpec) -> str:
    """Return what brings an image of Pillow to the model's bits and channels, as `preprocess.conform` does."""
    wide = "image.mode[0] == 'I'"
    narrow = "(np.asarray(image).astype(np.uint32) + 128) // 257"
    # Not the operator of a product: MONAI takes its sign for a reference.
    luma = "(np.asarray(image.convert('RGB')).astype(np.int64).dot([299, 587, 114]) * {} + 500) // 1000"
    if spec.channels == 3:
        converted = f"(Image.fromarray(({narrow}).astype(np.uint8)) if {wide} else image).convert('RGB')"
    elif spec.dtype == "uint16":
        converted = f"image if {wide} else Image.fromarray(({luma.format(257)}).astype(np.uint16))"
    else:
        converted = f"Image.fromarray(({narrow} if {wide} else {luma.format(1)}).astype(np.uint8))"
    return f"$lambda stored: (lambda image: {converted})(ImageOps.exif_transpose(stored))"

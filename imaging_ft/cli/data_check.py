"""`imaging-ft data check`."""

from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, say, show_json


def check(
    dataset: Dataset,
    split_seed: Annotated[int, typer.Option(help="Of the splits that the data doesn't declare.")] = 0,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    r"""Read every file of a data set, and say what is wrong and how it splits.

    Nothing is written. Exit code 2 where training would refuse it.

    \b
    Example:
      imaging-ft data check my_images/
    """
    from imaging_ft.data import prepare

    data = prepare(dataset, seed=split_seed, skip_bad=skip_bad, track=progress())
    summary = data.summary()
    if as_json:
        show_json(summary)
        return
    print(f"{summary['name']}: {summary['n']} images, {len(data.labels)} classes, {data.card.task}")
    print(f"split: {summary['split_method']}")
    width = max(len("class"), *(len(label) for label in data.labels))
    print(f"{'class':<{width}}" + "".join(f"{split:>8}" for split in summary["splits"]))
    for label in data.labels:
        print(f"{label:<{width}}" + "".join(f"{part['classes'][label]:>8}" for part in summary["splits"].values()))
    for row in ("n", "groups"):
        print(f"{row:<{width}}" + "".join(f"{part[row]:>8}" for part in summary["splits"].values()))
    for warning in data.warnings:
        say(f"warning: {warning}")
    for problem in data.skipped[:10]:
        say(f"left out: {problem}")
    if len(data.skipped) > 10:
        say(f"left out: … and {len(data.skipped) - 10} more (--json lists all)")

"""`imaging-ft doctor`."""

import typer

from imaging_ft.cli.console import AsJson, show_json


def doctor(as_json: AsJson = False) -> None:
    r"""Say what this machine has, and what clashes.

    Versions, execution providers (each one tried, not only listed), GPU, weights at hand, clashing wheels.
    Exit code 2 where something is broken.

    \b
    Example:
      imaging-ft doctor
    """
    from imaging_ft.inference.doctor import examine

    found = examine()
    if as_json:
        show_json(found.as_json())
    else:
        width = max(len(name) for name, _ in found.facts)
        for name, value in found.facts:
            print(f"{name:<{width}}  {value}")
        for problem in found.problems:
            print(f"problem: {problem}")
        if not found.problems:
            print("nothing clashes")
    raise typer.Exit(2 if found.problems else 0)

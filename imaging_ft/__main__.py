"""`python -m imaging_ft` is `imaging-ft`."""

from imaging_ft.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()

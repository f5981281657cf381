"""The command `freehold`, also as `python -m freehold`."""

import sys


def main() -> None:
    """Run the command. Ctrl-C is one line and exit code 130 even while the program is still being read."""
    try:
        from freehold.cli.main import main as command
    except KeyboardInterrupt:
        sys.exit(_interrupted())
    command()


def _interrupted() -> int:
    print("interrupted", file=sys.stderr)  # noqa: T201
    return 130


if __name__ == "__main__":
    main()

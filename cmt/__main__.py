"""Entry point of `cmt` and `python -m cmt`."""

import sys


def main() -> None:
    """Run the command. Ctrl-C during the imports exits with one line and status 130, as it does
    later.
    """
    try:
        from cmt.cli.main import main as run_command
    except KeyboardInterrupt:
        print("interrupted: nothing was changed", file=sys.stderr)
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()

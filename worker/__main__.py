"""Runs the `worker` command, also as `python -m worker`; says what to install if extras are missing."""

import sys


def start() -> None:
    """Run the command, or exit with the name of the extra that is missing."""
    try:
        from worker.cli.main import main
    except ModuleNotFoundError as error:
        sys.exit(
            f"error [bad_settings]: a worker needs {error.name}; "
            "install embedmill[cpu], embedmill[torch] or embedmill[gpu]"
        )
    main()


if __name__ == "__main__":
    start()

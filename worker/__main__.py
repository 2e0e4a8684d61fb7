"""The `worker` command, also as `python -m worker`; says what to install where only a producer is."""

import sys


def start() -> None:
    """Run the command, or end with the extra that a worker needs."""
    try:
        from worker.cli.main import main
    except ModuleNotFoundError as error:
        sys.exit(
            f"error [bad_settings]: a worker needs {error.name}; install embedmill[cpu] or embedmill[gpu]"
        )
    main()


if __name__ == "__main__":
    start()

"""Warns of environment variables that are named like ours and read by nobody."""

import difflib
from collections.abc import Mapping

import structlog
from pydantic import AliasChoices

from worker.settings import Settings

log = structlog.stdlib.get_logger(__name__)

_PREFIX = "EMBEDMILL_"


def warn_of_unknown_variables(environ: Mapping[str, str]) -> None:
    """Log each variable with our prefix that no setting has, with the nearest name of one."""
    known = known_variables()
    ends = [name.removeprefix(_PREFIX) for name in known]
    for name in sorted(environ):
        if name.startswith(_PREFIX) and name not in known:
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), ends, n=1)
            log.warning("unknown_variable", name=name, nearest=_PREFIX + near[0] if near else "none")


def known_variables() -> tuple[str, ...]:
    """The variables with our prefix that are read."""
    choices = (field.validation_alias for field in Settings.model_fields.values())
    names = [str(name) for each in choices if isinstance(each, AliasChoices) for name in each.choices]
    return tuple(name for name in names if name.startswith(_PREFIX))

"""A campaign file becomes rules, or an error that names every wrong line."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from dianzan.domain.campaign import Rules
from dianzan.domain.errors import CampaignError


def read_rules(path: Path) -> Rules:
    """Read a campaign file. Raises CampaignError that names every wrong line's field and what to write."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CampaignError(f"{path} cannot be read: {error.strerror}. Give the path of a campaign file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path} is not YAML in UTF-8: {error}") from error
    return parse_rules(raw, str(path))


def parse_rules(raw: object, source: str) -> Rules:
    """Check the content of a campaign file. Raises CampaignError naming every problem."""
    try:
        return Rules.model_validate(raw, extra="forbid")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors())
        raise CampaignError(f"{source} is refused:\n  " + "\n  ".join(problems)) from error

"""`dianzan campaign new`: a commented campaign file that is accepted as it is."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.resources import files

OPENS_IN = timedelta(days=7)
LASTS = timedelta(days=20)

_HEAD = """\
# A campaign file: mend what is not yours, then run `dianzan campaign create` with this file.
# Every field is explained in docs/campaign-file.md. A text with signs in it stands in quotation marks.

"""
_TAIL = """\
# The first moment at which a like is taken; without a time it is midnight.
opens: {opens} 08:00
# From this moment on none is taken.
closes: {closes}
# Media sites that show the button and whose likes are told apart, for example [bjnews, btime].
publishers: []
"""


def campaign_file(today: date) -> str:
    """A campaign file that opens in a week, for twenty days: the demo's fields, and the times that it lacks."""
    opens = today + OPENS_IN
    demo = (files("dianzan.local") / "demo" / "campaign.yaml").read_text(encoding="utf-8")
    fields = demo.partition("\n\n")[2].rstrip("\n") + "\n"
    for ours, yours in (
        ("id: demo\n", "id: rolemodels\n"),
        ("（演示）", f" {opens.year}"),
        ("expected_voters: 100000\n", "expected_voters: 1000000\n"),
    ):
        fields = fields.replace(ours, yours)
    return _HEAD + fields + _TAIL.format(opens=opens, closes=opens + LASTS)

"""How likes are spread over a campaign, a day and a minute on air; relative weights of equally long steps."""

from __future__ import annotations

from typing import Final

# Of the days: the opening, two weekends, and a last evening before the end.
DAYS: Final = (9, 7, 5, 4, 4, 6, 7, 4, 3, 3, 4, 4, 6, 7, 4, 4, 5, 6, 8, 12)
# Of the hours of a day; the evening hour holds a fifth of it.
HOURS: Final = (1, 1, 1, 1, 1, 1, 2, 4, 5, 5, 5, 5, 6, 5, 4, 4, 4, 5, 6, 9, 21, 8, 5, 2)
# A minute on air among quiet ones: a tenth of the time at twenty times the rate.
BURST: Final = (1, 1, 1, 1, 20, 1, 1, 1, 1, 1)

"""The spec's section on the loop: what is looked at, what counts as worse, what may be done."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from treadle.section import Section, interval_s

_HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")


class LearnFrom(StrEnum):
    """Where what is new to be learned comes from."""

    LOG = "log"
    SOURCE = "source"


class Review(StrEnum):
    """Who has the last word on what the loop would change."""

    NONE = "none"
    REQUIRED = "required"


class Feedback(Section):
    """Stage 8: what is looked at later on, and when to retrain or roll back."""

    window: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d*(d|h| rows)$",
        description="look at the last so many days, hours or rows, as in 30d, 12h or 20000 rows",
    )
    min_rows: int = Field(
        default=500, ge=100, description="look again when there are so many new rows in the log"
    )
    watch_at: float = Field(
        default=0.1, gt=0, lt=1, description="Jensen-Shannon distance worth a look"
    )
    drift_at: float = Field(default=0.2, gt=0, lt=1, description="... that counts as drift")
    jump_at: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="... that is a fault upstream where a column moves so far from one look to the "
        "next, and further than it ever did in training: reported, and not learned",
    )
    retrain_at: float = Field(
        default=0.1, gt=0, description="retrain when the metric is worse by this share"
    )
    roll_back_at: float = Field(
        default=0.02,
        ge=0,
        description="roll back when the champion before is better by this share on the same rows",
    )
    learn_from: LearnFrom = Field(
        default=LearnFrom.LOG,
        description="log: what the champion learned from, and the logged rows that have labels; "
        "source: the source, read again",
    )
    review: Review = Field(
        default=Review.NONE,
        description="required: what the loop would promote or roll back waits for a person; none",
    )
    cool_down: str = Field(
        default="1d", pattern=r"^\d+[mhd]$", description="between two retrainings, as in 12h"
    )
    retrains_a_week: int = Field(default=3, ge=0, description="... and no more than these a week")
    quiet_hours: str | None = Field(
        default=None,
        pattern=r"^\d{1,2}-\d{1,2}$",
        description="hours (UTC) in which nothing is retrained, as in 7-19 or 22-6",
    )
    storm_share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="where this share of all models (three at least) would be retrained at once "
        "over one column, it is a fault upstream: reported, and not learned",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.watch_at > self.drift_at:
            raise ValueError(f"watch_at {self.watch_at} is above drift_at {self.drift_at}")
        if self.quiet_hours and not all(0 <= hour <= 24 for hour in self._hours()):
            raise ValueError(f"quiet_hours {self.quiet_hours} goes beyond 0 to 24")
        return self

    @property
    def window_days(self) -> float | None:
        """How many days are looked at; None where it isn't said in time."""
        if self.window is None or self.window.endswith("rows"):
            return None
        return interval_s(self.window) / 86_400

    @property
    def window_rows(self) -> int | None:
        """How many rows are looked at; None where it isn't said in rows."""
        said = self.window is not None and self.window.endswith("rows")
        return int((self.window or "").split()[0]) if said else None

    @property
    def cool_down_s(self) -> float:
        """The cool-down in seconds."""
        return float(interval_s(self.cool_down))

    def is_quiet(self, now: datetime) -> bool:
        """Say whether a moment lies in the quiet hours."""
        if self.quiet_hours is None:
            return False
        begin, end = self._hours()
        hour = now.hour
        return begin <= hour < end if begin <= end else hour >= begin or hour < end

    def _hours(self) -> tuple[int, int]:
        found = _HOURS.fullmatch(self.quiet_hours or "")
        assert found is not None  # as the pattern says
        return int(found[1]), int(found[2])

"""The reports of a search under way, in the object store: whichever machine runs it again goes on
from there."""

import hashlib

from treadle.ports import ObjectStore
from treadle.records import FittedSegment, FittedSegments, Report


class Ledger:
    """One blob a report under ``searches/<name>/``: each appears whole or not at all, so a search
    may be killed at any moment."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self._prefix = f"searches/{name}/reports/"

    def read(self) -> dict[tuple[int, int], Report]:
        """Return what was reported so far, by candidate and units."""
        reports = [
            Report.model_validate_json(self._store.get_bytes(key))
            for key in self._store.keys(self._prefix)
        ]
        return {(report.candidate.number, report.units): report for report in reports}

    def write(self, report: Report) -> None:
        """Keep a report. A fault isn't kept: whoever goes on tries again."""
        if report.score is not None:
            key = f"{self._prefix}{report.candidate.number:06d}-{report.units}.json"
            self._store.put_bytes(key, report.model_dump_json().encode())


class SegmentLedger:
    """The segments that are fitted so far, some in each blob, under what they were made of."""

    def __init__(self, store: ObjectStore, name: str, made_of: str) -> None:
        self.name, self.made_of = name, made_of
        self._store = store
        self._prefix = f"searches/{name}/segments/{made_of}/"

    def read(self) -> list[FittedSegment]:
        """Return what is there."""
        return [
            fitted
            for key in self._store.keys(self._prefix)
            for fitted in FittedSegments.model_validate_json(self._store.get_bytes(key)).segments
        ]

    def write(self, fitted: list[FittedSegment]) -> None:
        """Keep some segments. What failed isn't kept: whoever goes on tries again."""
        whole = [one for one in fitted if not one.failed]
        if whole:
            name = hashlib.sha256("\0\0".join("\0".join(f.model.key) for f in whole).encode())
            content = FittedSegments(segments=whole).model_dump_json().encode()
            self._store.put_bytes(f"{self._prefix}{name.hexdigest()[:16]}.json", content)

"""Requests that come in together are answered together, without waiting for each other.

While one request runs, the others that have arrived wait in the event loop anyway. They are put
into one run of the graph: what a run costs whatever its rows is paid once. Nothing waits for a
timer, so a lone request isn't slowed.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from treadle.answers import Output
from treadle.encoding import Column
from treadle.signature import encode_rows
from treadle_serving.models import Served
from treadle_serving.prediction_log import PredictionLog

Rows = list[dict[str, Any]]
MOST_ROWS = 256
FEW_ROWS = 8


def compute(served: Served, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Column], Output]:
    """Return rows as the model read them, and its output. Raises RowErrors."""
    columns = encode_rows(rows, served.bundle.encoder)
    return columns, served.bundle.model.output(columns)


class Batch:
    """The requests for one version and role that wait for the same run."""

    def __init__(self, served: Served, role: str, log: PredictionLog) -> None:
        self._served, self._role, self._log = served, role, log
        self._waiting: list[tuple[Rows, list[str], asyncio.Future[Output]]] = []
        self._rows = 0

    def alone(self, rows: Rows, ids: list[str]) -> Output:
        """Answer one request by itself."""
        columns, output = compute(self._served, rows)
        # A few rows are cheaper encoded again in bulk than joined column by column.
        read = rows if len(rows) < FEW_ROWS else columns
        self._log.add(self._served, self._role, ids, read, output)
        return output

    def encoded(self, columns: dict[str, Column], ids: list[str]) -> Output:
        """Answer rows that are encoded already."""
        output = self._served.bundle.model.output(columns)
        self._log.add(self._served, self._role, ids, columns, output)
        return output

    def together(self, rows: Rows, ids: list[str]) -> "asyncio.Future[Output]":
        """Answer a request with those that arrive in the same turn of the loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Output] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((rows, ids, future))
        self._rows += len(rows)
        if self._rows >= MOST_ROWS:
            self._run()
        return future

    def _run(self) -> None:
        waiting, self._waiting, self._rows = self._waiting, [], 0
        if len(waiting) < 2:
            self._one_by_one(waiting)
            return
        rows = [row for rows, _, _ in waiting for row in rows]
        try:
            output = self.alone(rows, [id_ for _, ids, _ in waiting for id_ in ids])
        except Exception:
            # One of them is at fault: each gets its own answer.
            self._one_by_one(waiting)
            return
        begin = 0
        for rows, _, future in waiting:
            if not future.done():
                future.set_result(output[begin : begin + len(rows)])
            begin += len(rows)

    def _one_by_one(self, waiting: list[tuple[Rows, list[str], "asyncio.Future[Output]"]]) -> None:
        for rows, ids, future in waiting:
            if future.done():
                continue
            try:
                future.set_result(self.alone(rows, ids))
            except Exception as error:
                future.set_exception(error)

"""What the server shows of the loop."""

from datetime import UTC, datetime
from pathlib import Path

from serving_fakes import Running

from treadle.monitoring import FLEET_KEY, Fleet, FleetRow, Verdict, page_key
from treadle.records import Metric

RMSE = Metric(name="rmse", value=2.5, low=2, high=3, higher_is_better=False)


def test_the_fleet_is_shown_to_people_and_to_prometheus(tmp_path: Path) -> None:
    server = Running(tmp_path)
    assert server.get("/monitor").status_code == 404
    assert "treadle_monitor" not in server.get("/metrics").text
    row = FleetRow(model="sum", version=1, verdict=Verdict.INCIDENT, metric=RMSE, furthest=0.4,
                   needs_person=True)  # fmt: skip
    fleet = Fleet(at=datetime(2026, 3, 1, tzinfo=UTC), rows=[row])
    other = Running(tmp_path / "other")
    other.store.put_bytes(FLEET_KEY, fleet.model_dump_json().encode())
    other.store.put_bytes(page_key(None), b"<h1>Models at work</h1>")
    other.store.put_bytes(page_key("sum"), b"<h1>sum at work</h1>")
    metrics = other.get("/metrics").text
    assert 'treadle_monitor_verdict{model="sum",verdict="incident"} 1.0' in metrics
    assert 'treadle_monitor_needs_person{model="sum"} 1.0' in metrics
    assert 'treadle_monitor_drift{model="sum"} 0.4' in metrics
    assert 'treadle_monitor_metric{metric="rmse",model="sum",of="now"} 2.5' in metrics
    assert "Models at work" in other.get("/monitor").text
    assert "sum at work" in other.get("/monitor/sum").text
    assert other.get("/monitor/other").status_code == 404
    assert other.get("/monitor/Not.a.name").status_code == 404


def test_a_table_that_can_not_be_read_costs_no_metrics(tmp_path: Path) -> None:
    server = Running(tmp_path)
    server.store.put_bytes(FLEET_KEY, b"{")
    assert server.get("/metrics").status_code == 200

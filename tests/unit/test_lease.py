"""The lease: one acts, and who is killed loses it."""

from datetime import timedelta

import pytest

from treadle import lease
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import Overtaken
from treadle.lease import Lease


def taken(store: DirectoryStore, holder: str) -> Lease:
    found = lease.take("monitor", holder, store)
    assert isinstance(found, Lease)
    return found


def test_one_holds_it_and_the_other_is_told_who(store: DirectoryStore) -> None:
    first = taken(store, "one")
    assert lease.take("monitor", "two", store) == "one"
    first.release()
    taken(store, "two").check()


def test_who_is_killed_loses_it(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LASTS", timedelta(seconds=-1))
    slow = taken(store, "killed")
    monkeypatch.undo()
    taken(store, "two")
    with pytest.raises(Overtaken):
        slow.check()
    with pytest.raises(Overtaken, match="another monitor has taken over"):
        slow.renew()
    assert lease.take("monitor", "three", store) == "two"


def test_a_holder_that_renews_keeps_it(store: DirectoryStore) -> None:
    with lease.kept(taken(store, "one")) as held:
        held.renew()
        held.check()
        assert lease.take("monitor", "two", store) == "one"
    assert isinstance(lease.take("monitor", "two", store), Lease)


def test_numbers_of_former_holders_are_tidied_away(store: DirectoryStore) -> None:
    for holder in ("one", "two", "three"):
        taken(store, holder).release()
    assert len(list(store.keys("leases/"))) == 1

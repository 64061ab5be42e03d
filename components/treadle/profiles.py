"""Profiles in the object store, named by the digest of their content: two runs that see the same
rows hand on the same name."""

import hashlib

from treadle.ports import ObjectStore
from treadle.records import Profile


def keep(profile: Profile, store: ObjectStore) -> str:
    """Store a profile; return its digest."""
    content = profile.model_dump_json().encode()
    digest = hashlib.sha256(content).hexdigest()[:32]
    store.put_bytes(_key(digest), content)
    return digest


def load(digest: str, store: ObjectStore) -> Profile:
    """Return a stored profile. Raises StoreError where there is none."""
    return Profile.model_validate_json(store.get_bytes(_key(digest)))


def _key(digest: str) -> str:
    return f"profiles/{digest}.json"

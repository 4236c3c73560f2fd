from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from db import model_versions
from db.engine import Database
from db.errors import ModelVersionConflictError
from db.records import NewModelVersion, Recorded
from tests.db import samples


def register(database: Database, new: NewModelVersion) -> Recorded:
    with database.write() as session:
        return model_versions.register(session, new)


def test_everything_comes_back(database: Database) -> None:
    for new in (samples.model(), samples.model(good_class=None, version="2", fingerprint=samples.sha("2"))):
        recorded = register(database, new)
        with database.read() as session:
            found = model_versions.find(session, recorded.id)
            assert found == model_versions.find_by_fingerprint(session, new.fingerprint)
        assert found is not None
        assert {name: getattr(found, name) for name in vars(new)} == vars(new)
        assert found.model_version_id == recorded.id


def test_the_first_registration_of_a_fingerprint_stands(database: Database) -> None:
    first = register(database, samples.model())
    assert register(database, samples.model(name="another name", metrics={})) == Recorded(first.id, is_new=False)
    with database.read() as session:
        (only,) = model_versions.everything(session)
    assert only.name == "steel"


def test_one_name_and_version_cannot_stand_for_two_models(database: Database) -> None:
    register(database, samples.model())
    with pytest.raises(ModelVersionConflictError, match="'steel' version '1'"):
        register(database, samples.model(fingerprint=samples.sha("retrained")))
    assert register(database, samples.model(fingerprint=samples.sha("retrained"), version="2")).is_new


def test_versions_are_listed_in_the_order_they_came(database: Database) -> None:
    for number in (3, 1, 2):
        changes: dict[str, Any] = {"version": str(number), "fingerprint": samples.sha(str(number))}
        register(database, samples.model(**changes))
    with database.read() as session:
        assert [m.version for m in model_versions.everything(session)] == ["3", "1", "2"]
        assert model_versions.find(session, uuid4()) is None
        assert model_versions.find_by_fingerprint(session, samples.sha("?")) is None

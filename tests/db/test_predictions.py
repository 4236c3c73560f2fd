from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from db import decisions, model_versions, predictions
from db.engine import Database
from db.errors import InvalidRecordError
from db.keys import canonical_sha256
from db.records import NewPrediction, PredictedImage, Prediction, Recorded
from tests.db import samples


@pytest.fixture
def decision_id(database: Database) -> UUID:
    with database.write() as session:
        model_versions.register(session, samples.model())
        return decisions.record(session, samples.decision()).id


def record(database: Database, new: NewPrediction) -> Recorded:
    with database.write() as session:
        return predictions.record(session, new)


def find(database: Database, recorded: Recorded) -> Prediction:
    with database.read() as session:
        found = predictions.find(session, recorded.id)
    assert found is not None
    return found


def test_everything_comes_back(database: Database, decision_id: UUID) -> None:
    new = samples.prediction(decision_id)
    found = find(database, record(database, new))
    assert {name: getattr(found, name) for name in vars(new)} == vars(new)
    assert found.result_sha256 == canonical_sha256(new.result)


def test_secrets_in_the_images_address_are_not_kept(database: Database, decision_id: UUID) -> None:
    new = samples.prediction(decision_id, image_uri="https://u:pw@store/part.jpg?X-Amz-Signature=abc")
    assert find(database, record(database, new)).image_uri == "https://store/part.jpg?X-Amz-Signature=***"


def test_telling_the_same_again_makes_no_second_row(database: Database, decision_id: UUID) -> None:
    first = record(database, samples.prediction(decision_id))
    assert record(database, samples.prediction(decision_id)) == Recorded(first.id, is_new=False)
    changed = record(database, samples.prediction(decision_id, result=[]))
    assert changed.is_new
    # Back to the first answer: that was sent anew, and is the last one now.
    assert record(database, samples.prediction(decision_id)).is_new


def test_one_decision_answers_several_tasks(database: Database, decision_id: UUID) -> None:
    ids = [record(database, samples.prediction(decision_id, task_id=task)).id for task in (41, 42)]
    elsewhere = record(database, samples.prediction(decision_id, instance="http://elsewhere"))
    assert len({*ids, elsewhere.id}) == 3
    with database.read() as session:
        assert [p.prediction_id for p in predictions.for_part(session, "4711")] == [*ids, elsewhere.id]
        assert predictions.for_part(session, "4712") == ()


def test_the_latest_for_a_task_is_found(database: Database, decision_id: UUID) -> None:
    first, second = (find(database, record(database, samples.prediction(decision_id, result=[n]))) for n in (1, 2))

    def latest(**options: object) -> Prediction | None:
        with database.read() as session:
            return predictions.latest_for_task(
                session,
                **{"instance": samples.INSTANCE, "task_id": 41, **options},  # type: ignore[arg-type]
            )

    assert latest() == second
    assert latest(before=second.sent_at) == first
    assert latest(before=first.sent_at) is None
    assert latest(model_version="steel 1") == second
    newer = find(database, record(database, samples.prediction(decision_id, model_version="steel 2")))
    assert (latest(), latest(model_version="steel 1"), latest(model_version="steel 3")) == (newer, second, None)
    assert latest(task_id=42) is latest(instance="http://elsewhere") is None


def test_the_latest_for_an_image_is_that_of_its_project(database: Database, decision_id: UUID) -> None:
    def latest(
        image: str = "image", project: int = 3, instance: str = samples.INSTANCE, version: str | None = None
    ) -> UUID | None:
        with database.read() as session:
            found = predictions.latest_for_image(
                session,
                instance=instance,
                project_id=project,
                image_sha256=samples.sha(image),
                model_version=version,
            )
        return None if found is None else found[0].prediction_id

    assert latest() is None
    first = record(database, samples.prediction(decision_id)).id
    assert latest() == first
    again = record(database, samples.prediction(decision_id, task_id=42, result=[])).id
    with database.write() as session:
        other = decisions.record(session, samples.decision("other image")).id
    record(database, samples.prediction(other))
    record(database, samples.prediction(decision_id, project_id=4))
    assert latest() == again
    newer = record(database, samples.prediction(decision_id, task_id=42, model_version="steel 2")).id
    assert latest() == latest(version="steel 2") == latest(version="steel 3") == newer
    assert latest(version="steel 1") == again
    assert latest("unknown") is latest(project=5) is latest(instance="http://elsewhere") is None


def test_the_latest_for_an_address_is_that_of_its_project(database: Database, decision_id: UUID) -> None:
    def latest(address: str, project: int = 3, instance: str = samples.INSTANCE) -> UUID | None:
        with database.read() as session:
            found = predictions.latest_for_address(
                session, instance=instance, project_id=project, image_address_sha256=samples.sha(address)
            )
        return None if found is None else found.prediction_id

    def sent(address: str | None, **changes: Any) -> Recorded:
        hashed = None if address is None else samples.sha(address)
        return record(database, samples.prediction(decision_id, image_address_sha256=hashed, **changes))

    assert sent(None).is_new
    assert latest("a") is None
    first = sent("a")
    assert latest("a") == first.id
    assert not sent("a").is_new
    again = sent("a", task_id=42)
    # The same answer for the same task, at another address: kept, or its maps would never be found.
    moved = sent("b")
    assert moved.is_new
    sent("a", project_id=4, task_id=43)
    assert (latest("a"), latest("b")) == (again.id, moved.id)
    assert latest("c") is latest("b", project=4) is latest("a", instance="http://elsewhere") is None


def test_a_prediction_without_decision_is_refused(database: Database) -> None:
    with pytest.raises(InvalidRecordError, match=r"(?i)foreign key"):
        record(database, samples.prediction(uuid4()))
    with database.read() as session:
        assert predictions.find(session, uuid4()) is None


def test_each_image_of_a_part_comes_back_and_is_found_with_its_own_decision(
    database: Database, decision_id: UUID
) -> None:
    with database.write() as session:
        other = decisions.record(session, samples.decision("other image")).id
    images = tuple(
        PredictedImage(name=name, decision_id=which, image_uri=f"/{name}.jpg", image_address_sha256=samples.sha(name))
        for name, which in (("image_1", decision_id), ("image_2", other))
    )
    new = samples.prediction(other, images=images)
    recorded = record(database, new)
    assert find(database, recorded).images == images
    assert record(database, new) == Recorded(recorded.id, is_new=False)
    # The same answer about another photograph is another prediction.
    swapped = record(database, samples.prediction(other, images=(replace(images[0], decision_id=other), images[1])))
    assert swapped.is_new
    where = {"instance": samples.INSTANCE, "project_id": 3}
    with database.read() as session:
        for name, which in (("image", decision_id), ("other image", other)):
            found = predictions.latest_for_image(session, **where, image_sha256=samples.sha(name))
            assert found is not None and found[1] == which
        for image in images:
            address = predictions.latest_for_address(session, **where, image_address_sha256=image.image_address_sha256)
            assert address is not None and address.prediction_id == swapped.id


def test_secrets_in_the_addresses_of_further_images_are_not_kept(database: Database, decision_id: UUID) -> None:
    image = PredictedImage(name="image_2", decision_id=decision_id, image_uri="https://u:pw@store/2.jpg?sig=abc")
    [kept] = find(database, record(database, samples.prediction(decision_id, images=(image,)))).images
    assert kept.image_uri == "https://store/2.jpg?sig=***"

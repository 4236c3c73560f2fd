"""The model as Label Studio's own SDK for ML backends knows it: a subclass of its base class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from label_studio_ml.model import LabelStudioMLBase

from backend.label_studio.labeling_config import parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backend.desk import Desk


class InspectionBackend(LabelStudioMLBase):  # type: ignore[misc]
    """Answers for one request. It keeps nothing: weights, database and credentials belong to the desk.

    Args:
        desk: what the process shares.
        label_config: the labeling configuration that came with the request.
        project: Label Studio's project number.

    Raises:
        LabelingConfigError: the labeling configuration cannot be read.
    """

    def __init__(self, desk: Desk, label_config: str, project: int | None) -> None:
        # The base class reads the XML with a parser that trusts it, so ours, which does not, has the first look.
        parse(label_config)
        super().__init__(label_config=label_config)
        self._desk = desk
        self._project = project

    def predict(self, tasks: Sequence[Mapping[str, Any]], **_: Any) -> list[dict[str, Any]]:
        """One prediction a task, in the order of the tasks; `{}` for a task that failed, with its reason kept."""
        return self._desk.predictions.answer(tasks, self.label_config, self._project)

    def fit(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Refuse: models are trained with `inspection train`, outside the web process.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "train with `inspection train --data DIR --out MODEL`, then `inspection models activate MODEL`"
        )

"""The model as Label Studio's own SDK for ML backends knows it: a subclass of its base class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from label_studio_ml.model import LabelStudioMLBase

from backend.label_studio.labeling_config import LabelingConfigError, parse

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
        try:
            super().__init__(label_config=label_config)
        except Exception as error:  # it lets through whatever its parser raises
            raise LabelingConfigError(
                f"Label Studio's SDK cannot read the labeling configuration: {error or type(error).__name__}"
            ) from error
        self._desk = desk
        self._project = project

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """One prediction a task, in the order of the tasks; `{}` for a task that failed, with its reason kept.

        With the `context` of a smart tool, the answer to that question about the one task.

        Raises:
            QuestionError: the context holds no question that can be answered.
        """
        if context is not None:
            return [self._desk.questions.answer(tasks, context, self.label_config, self._project)]
        return self._desk.predictions.answer(tasks, self.label_config, self._project)

    def fit(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Refuse: models are trained with `inspection train`, outside the web process.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "press Start Training in Label Studio, or run `inspection train --from-reviews --out MODEL`"
        )

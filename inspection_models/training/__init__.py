"""Training: from a labelled data set to a calibrated, measured model directory."""

from inspection_models.training.checkpoint import CheckpointError
from inspection_models.training.evaluation import Evaluation, evaluate
from inspection_models.training.recalibration import CalibrationReport, CalibrationRequest, calibrate
from inspection_models.training.request import (
    EpochFigures,
    TrainingError,
    TrainingEvent,
    TrainingReport,
    TrainingRequest,
)
from inspection_models.training.trainer import Lessons, train, train_on

__all__ = [
    "CalibrationReport",
    "CalibrationRequest",
    "CheckpointError",
    "EpochFigures",
    "Evaluation",
    "Lessons",
    "TrainingError",
    "TrainingEvent",
    "TrainingReport",
    "TrainingRequest",
    "calibrate",
    "evaluate",
    "train",
    "train_on",
]

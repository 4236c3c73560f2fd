"""How good an explanation is: where it points, whether the network agrees, and whether it depends on the network."""

from inspection_models.metrics.bootstrap import Interval, bootstrap, mean_interval, paired_difference
from inspection_models.metrics.controls import CONTROLS, control_map
from inspection_models.metrics.errors import MetricError
from inspection_models.metrics.evaluation import EvaluationSettings, evaluate_explanations, method_names
from inspection_models.metrics.faithfulness import (
    ConfidenceCurves,
    KeptConfidence,
    class_confidence,
    insertion_deletion,
    keep_highest,
)
from inspection_models.metrics.fills import FILLS, fill_image
from inspection_models.metrics.localisation import (
    bbox,
    energy_based_pointing_game,
    pixel_average_precision,
    pointing_game,
    ranked_pointing_game,
    top_iou,
)
from inspection_models.metrics.parts import ChosenPart, choose_part
from inspection_models.metrics.report import ExplanationReport, ImageFigures, MapFigures, MethodRow
from inspection_models.metrics.sanity import RandomisedStage, cascading_randomisation, label_randomisation
from inspection_models.metrics.similarity import Similarity, similarity

__all__ = [
    "CONTROLS",
    "FILLS",
    "ChosenPart",
    "ConfidenceCurves",
    "EvaluationSettings",
    "ExplanationReport",
    "ImageFigures",
    "Interval",
    "KeptConfidence",
    "MapFigures",
    "MethodRow",
    "MetricError",
    "RandomisedStage",
    "Similarity",
    "bbox",
    "bootstrap",
    "cascading_randomisation",
    "choose_part",
    "class_confidence",
    "control_map",
    "energy_based_pointing_game",
    "evaluate_explanations",
    "fill_image",
    "insertion_deletion",
    "keep_highest",
    "label_randomisation",
    "mean_interval",
    "method_names",
    "paired_difference",
    "pixel_average_precision",
    "pointing_game",
    "ranked_pointing_game",
    "similarity",
    "top_iou",
]

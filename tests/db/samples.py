"""Records to store: plausible ones, any of whose fields a test can change."""

from __future__ import annotations

import hashlib
import struct
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from db.records import (
    DecisionSettings,
    Explanation,
    NewDecision,
    NewModelVersion,
    NewPrediction,
    NewReconciliation,
    NewReview,
    ReconciliationMark,
    VisualizationMap,
)

NOON = datetime(2026, 5, 3, 12, 0, 0, 123456, tzinfo=timezone.utc)
INSTANCE = "http://127.0.0.1:8080"
CLASSES = ("good", "scratch", "pit")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def model(**changes: Any) -> NewModelVersion:
    fields: dict[str, Any] = {
        "name": "steel",
        "version": "1",
        "architecture": "efficientnet-lite0",
        "weights_sha256": sha("weights"),
        "fingerprint": sha("model"),
        "classes": CLASSES,
        "good_class": "good",
        "preprocessing": {"mode": "letterbox", "size": [224, 224], "mean": [127.0] * 3, "std": [128.0] * 3},
        "calibration": {"temperature": 1.25},
        "thresholds": {"defect": 0.5, "region": 0.4},
        "explanation": {"method": "sise", "mu": 0.0},
        "training": {"images": 1200, "seed": 7},
        "metrics": {"balanced_accuracy": 0.97},
        "card": {"name": "steel", "activation": "softmax"},
    }
    return NewModelVersion(**{**fields, **changes})


def settings(**changes: Any) -> DecisionSettings:
    fields: dict[str, Any] = {
        "method": "sise",
        "explanation": {"mu": 0.0, "gate": "hard"},
        "thresholds": {"defect": 0.5, "region": 0.4},
        "batch_shape": (1, 3, 224, 224),
        "seed": None,
        "environment_class": "linux x86_64 cpu",
    }
    return DecisionSettings(**{**fields, **changes})


def block(index: int, values: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 0.1, 0.2)) -> VisualizationMap:
    return VisualizationMap(
        block_index=index, block_name=f"features.{index}", channels=16, height=2, width=3, grid=floats(*values)
    )


def explanation(class_name: str = "scratch", rank: int = 1, **changes: Any) -> Explanation:
    fields: dict[str, Any] = {
        "class_name": class_name,
        "rank": rank,
        "height": 480,
        "width": 640,
        "masks_scored": 17,
        "map_sha256": sha(f"map of {class_name}"),
        "visualization_maps": (block(0), block(1)),
    }
    return Explanation(**{**fields, **changes})


TILES = {
    "shown": [{"top": 0, "left": 448, "height": 64, "width": 64, "probability": 0.93}],
    "worthy": 1,
    "looked_at": 60,
}


def decision(image: str = "image", **changes: Any) -> NewDecision:
    fields: dict[str, Any] = {
        "image_sha256": sha(image),
        "pixel_sha256": sha(f"pixels of {image}"),
        "image_width": 640,
        "image_height": 480,
        "image_media_type": "image/jpeg",
        "exif_orientation": 6,
        "model_fingerprint": sha("model"),
        "settings": settings(),
        "environment": {"python": "3.11.7", "torch": "2.13.0", "flags": ["avx2", "fma"]},
        "predicted_class": "scratch",
        "probability": 0.9300000071525574,
        "logits": floats(-1.5, 3.25, 0.1),
        "scores": {"good": 0.05, "scratch": 0.9300000071525574, "pit": 0.02},
        "is_defect": True,
        "verdict": "defect",
        "labels": ("scratch",),
        "distance": 0.11999999731779099,
        "unlike_from": 0.25,
        "masks_scored": 34,
        "regions": [{"polygon": [[1.5, 2.25], [10.5, 2.25], [6.0, 9.75]], "evidence": 0.8, "label": "scratch"}],
        "timings_ms": {"decode": 3.5, "classify": 20.25, "attribute": 900.125},
        "started_at": NOON,
        "finished_at": NOON + timedelta(milliseconds=924),
        "explanations": (explanation(tiles=TILES), explanation("pit", 2)),
    }
    return NewDecision(**{**fields, **changes})


def prediction(decision_id: UUID, **changes: Any) -> NewPrediction:
    fields: dict[str, Any] = {
        "decision_id": decision_id,
        "instance": INSTANCE,
        "project_id": 3,
        "task_id": 41,
        "label_config_sha256": sha("<View/>"),
        "model_version": "steel 1",
        "result": [{"from_name": "defect", "type": "choices", "value": {"choices": ["scratch"]}}],
        "image_uri": "/data/upload/3/part.jpg",
        "image_address_sha256": sha("/data/upload/3/part.jpg"),
        "part_serial": "4711",
        "lot": "L-17",
        "station": "S2",
    }
    return NewPrediction(**{**fields, **changes})


def reconciliation(**changes: Any) -> NewReconciliation:
    fields: dict[str, Any] = {
        "instance": INSTANCE,
        "project_id": 3,
        "is_full": True,
        "through": NOON,
        "annotations": 9,
        "created": 3,
        "updated": 2,
        "skipped": 1,
        "deleted": 4,
        "failed": 0,
        "waiting": 1,
        "surplus": -2,
        "started_at": NOON,
    }
    return NewReconciliation(**{**fields, **changes})


def mark(**changes: Any) -> ReconciliationMark:
    fields: dict[str, Any] = {
        "instance": INSTANCE,
        "project_id": 3,
        "through": NOON,
        "since": None,
        "reached_at": NOON,
        "compared_at": NOON,
        "whole_at": NOON,
        "failed": 2,
        "surplus": -2,
    }
    return ReconciliationMark(**{**fields, **changes})


def review(**changes: Any) -> NewReview:
    fields: dict[str, Any] = {
        "instance": INSTANCE,
        "project_id": 3,
        "task_id": 41,
        "annotation_id": 1001,
        "action": "created",
        "outcome": "accepted",
        "label_predicted": "scratch",
        "label_final": "scratch",
        "labels_final": ("scratch",),
        "regions_final": [{"id": "r1", "type": "polygonlabels", "value": {"points": [[10.5, 20], [30, 20], [20, 40]]}}],
        "region_changes": [{"change": "kept", "iou": 1.0}],
        "reasons": ("wrong place", "bad photograph"),
        "mean_iou": 1.0,
        "result_sha256": sha("result"),
        "lead_time_s": 4.2,
        "annotation_created_at": NOON,
        "annotation_updated_at": NOON,
        "payload_sha256": sha("payload"),
    }
    return NewReview(**{**fields, **changes})

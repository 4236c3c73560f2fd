"""Data sets: layouts on disk, splits that keep siblings together, and the synthetic demonstration set."""

from inspection_models.data.dataset import PARTS, Box, Dataset, DatasetError, Polygon, RunLengths, Sample
from inspection_models.data.layouts import LAYOUTS, load_dataset
from inspection_models.data.markings import is_marked, truth_of
from inspection_models.data.splits import Split, split_dataset
from inspection_models.data.summary import summarise
from inspection_models.data.synthetic_steel import write_synthetic_steel

__all__ = [
    "LAYOUTS",
    "PARTS",
    "Box",
    "Dataset",
    "DatasetError",
    "Polygon",
    "RunLengths",
    "Sample",
    "Split",
    "is_marked",
    "load_dataset",
    "split_dataset",
    "summarise",
    "truth_of",
    "write_synthetic_steel",
]

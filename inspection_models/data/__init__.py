"""Data sets: layouts on disk, splits that keep siblings together, and the synthetic demonstration set."""

from inspection_models.data.dataset import Box, Dataset, DatasetError, Sample
from inspection_models.data.layouts import LAYOUTS, load_dataset
from inspection_models.data.splits import Split, split_dataset
from inspection_models.data.synthetic_steel import write_synthetic_steel

__all__ = [
    "LAYOUTS",
    "Box",
    "Dataset",
    "DatasetError",
    "Sample",
    "Split",
    "load_dataset",
    "split_dataset",
    "write_synthetic_steel",
]

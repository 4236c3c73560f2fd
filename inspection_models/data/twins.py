"""Near-duplicates: photographs of one scene that differ by scale, compression or brightness alone, and their groups.

A perceptual hash proposes pairs: the signs of the low frequencies of a thumbnail's cosine transform. Three correlations
then verify a pair. *Coarse*: of the thumbnails. *Fine*: of what a blur takes away from them, for surfaces of one kind
agree in their shading, but only the same surface in its grain. *Own*, where many pictures of the set agree in their
fine parts, as parts of one kind in one position do in their edges: of these without what the set has in common, its
mean and first principal components.

In the files of `magnetic-tile`, the pairs far apart in number whose fine correlation is above 0.85 show one tile to the
eye; strangers reach 0.80. Of two different photographs of `neu-det`, no pair is above 0.82. Exposures of one tile often
correlate less, for much of their grain is the camera's: a layout that knows its parts knows more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from sklearn.utils.extmath import randomized_svd

from inspection_models.data.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from inspection_models.data.dataset import Sample
    from inspection_models.data.photographs import Photograph

_FREQUENCIES = 16
_BLUR = 3.0
_LARGEST_DISTANCE = 0.3
_COARSE, _FINE, _OWN = 0.9, 0.85, 0.7
# Too few pictures tell nothing of what they have in common; then only the nearest are taken.
_ENOUGH, _FINE_OF_FEW = 25, 0.97
_MOST_COMPONENTS = 8
# A set is of one kind where so many of its pairs correlate so highly; twins alone are fewer.
_ALIKE_SHARE, _ALIKE = 0.02, 0.7
_PROBED = 512
# Weaker grain, in grey values, is mostly rounding.
_LEAST_GRAIN = 0.5
_BLOCK = 256
# A larger family says that the method cannot tell these pictures apart, not that they are all of one part.
_LARGEST_SHARE, _LARGE = 0.2, 20


def with_twins(dataset: Dataset, photographs: Sequence[Photograph]) -> Dataset:
    """The data set with its photographs, and the groups of twins made one.

    Families that are too large to be twins are left as they are, and noted, as are twins of different classes.
    """
    samples = dataset.samples
    thumbnails = np.stack([photograph.seen.thumbnail for photograph in photographs])
    families: list[list[int]] = []
    alike: list[list[int]] = []
    for family in _connected(len(samples), twin_pairs(thumbnails)):
        large = len(family) > max(_LARGE, _LARGEST_SHARE * len(samples))
        (alike if large else families).append(family)
    notes = list(dataset.notes)
    for family in alike:
        notes.append(
            f"{len(family)} images, {samples[family[0]].path.name} first, look so much alike that twins cannot be told "
            "from other parts of one kind; they are not grouped"
        )
    differing = [family for family in families if len({samples[index].labels for index in family}) > 1]
    if differing:
        one, other = _contradiction(samples, differing[0])
        notes.append(
            f"{len(differing)} families of twins carry different labels, for example {one.path.name} "
            f"({', '.join(one.labels)}) and {other.path.name} ({', '.join(other.labels)}); look which is right"
        )
    groups = _joined_groups(samples, families)
    return replace(
        dataset,
        samples=tuple(replace(sample, group=groups[sample.group]) for sample in samples),
        notes=tuple(notes),
        photographs=tuple(photographs),
        twins=tuple(tuple(samples[index].path for index in family) for family in families),
    )


def twin_pairs(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs (i < j) of pictures that are near-duplicates.

    Args:
        thumbnails: uint8 [N, S, S], grey.
    """
    count = len(thumbnails)
    hashes = _hashes(thumbnails)
    fine = _fine(thumbnails)
    enough = count >= _ENOUGH
    own = _own(fine) if enough and _of_one_kind(fine) else fine
    coarse = _unit(thumbnails.reshape(count, -1).astype(np.float32))
    least_own, least_fine = (_OWN, _FINE) if enough else (_FINE_OF_FEW, _FINE_OF_FEW)
    bits = hashes.shape[1]
    least_agreement = bits * (1 - 2 * _LARGEST_DISTANCE)
    pairs: list[tuple[int, int]] = []
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        proposed = np.triu(hashes[rows] @ hashes[start:].T >= least_agreement, 1)
        columns = start + np.flatnonzero(proposed.any(axis=0))
        near = (own[rows] @ own[columns].T >= least_own) & proposed[:, columns - start]
        first, second = np.nonzero(near)
        first, second = first + start, columns[second]
        for at in range(0, len(first), _BLOCK):
            i, j = first[at : at + _BLOCK], second[at : at + _BLOCK]
            same = (_dot(fine, i, j) >= least_fine) & (_dot(coarse, i, j) >= _COARSE)
            pairs += zip(i[same].tolist(), j[same].tolist(), strict=True)
    return pairs


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Signs of low frequencies, float32 [N, B] of -1 and 1, so that a product counts agreements."""
    low = [cv2.dct(thumbnail.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:] for thumbnail in thumbnails]
    return np.where(np.stack(low) > 0, 1, -1).astype(np.float32)


def _fine(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The grain of each picture as a unit vector, or zeros where it has none."""
    grey = thumbnails.astype(np.float32)
    grain = np.stack([picture - cv2.GaussianBlur(picture, (0, 0), _BLUR) for picture in grey]).reshape(len(grey), -1)
    grain[grain.std(axis=1) < _LEAST_GRAIN] = 0
    return _unit(grain)


def _of_one_kind(fine: NDArray[np.float32]) -> bool:
    """Whether many pairs agree in their grain, as far as some hundreds of pictures tell."""
    probed = fine[:: -(-len(fine) // _PROBED)]
    products = (probed @ probed.T)[np.triu_indices(len(probed), 1)]
    return bool((products >= _ALIKE).mean() > _ALIKE_SHARE)


def _own(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of the grain is not common to many pictures, as unit vectors."""
    own = fine - fine.mean(axis=0)
    components = min(_MOST_COMPONENTS, len(fine) // _ENOUGH)
    _, _, directions = randomized_svd(own, n_components=components, random_state=0)
    return _unit(own - (own @ directions.T) @ directions)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-6))


def _dot(vectors: NDArray[np.float32], i: NDArray[np.int64], j: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("nd,nd->n", vectors[i], vectors[j]))


def _connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """The families that pairs make, each sorted, without pictures that stand alone."""
    parents = list(range(count))

    def head(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for one, other in pairs:
        first, second = sorted((head(one), head(other)))
        parents[second] = first
    families: dict[int, list[int]] = {}
    for index in range(count):
        families.setdefault(head(index), []).append(index)
    return [family for family in families.values() if len(family) > 1]


def _joined_groups(samples: Sequence[Sample], families: Iterable[list[int]]) -> dict[str, str]:
    """What each group is called once those of twins are one: the first of their names."""
    names = sorted({sample.group for sample in samples})
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [
        (numbers[samples[family[0]].group], numbers[samples[index].group]) for family in families for index in family
    ]
    joined = {name: name for name in names}
    for family in _connected(len(names), pairs):
        joined.update({names[number]: names[family[0]] for number in family})
    return joined


def _contradiction(samples: Sequence[Sample], family: list[int]) -> tuple[Sample, Sample]:
    first = samples[family[0]]
    return first, next(samples[index] for index in family if samples[index].labels != first.labels)

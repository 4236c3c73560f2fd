"""Near-duplicates: photographs of one scene that differ by scale, compression or brightness alone, and their groups.

A perceptual hash proposes pairs: the signs of the low frequencies of a thumbnail's cosine transform. Correlations then
verify a pair. *Coarse*: of the thumbnails. *Fine*: of what a blur takes away from them, for surfaces of one kind agree
in their shading, but only the same surface in its grain. Verified pairs chain pictures to clusters. A small cluster is
of twins. A large one is a series of one picture, or parts of one kind in one position, which agree in their edges: in
it twins are those nearly identical, and those that agree in their *own* grain, without what the cluster has in common,
its mean and first principal components. Pictures with hardly any grain are compared in grey values.

In the files of `magnetic-tile`, the pairs far apart in number whose fine correlation is above 0.85 show one tile to the
eye; strangers reach 0.80. Of two different photographs of `neu-det`, no pair is above 0.82. Exposures of one tile often
correlate less, for much of their grain is the camera's: a layout that knows its parts knows more.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]
from sklearn.utils.extmath import randomized_svd

from inspection_models.data.dataset import Dataset, data_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from inspection_models.data.dataset import Sample
    from inspection_models.data.photographs import Photograph

_FREQUENCIES = 16
_BLUR = 3.0
_LARGEST_DISTANCE = 0.3
_COARSE, _FINE, _OWN = 0.9, 0.85, 0.7
# Nearly identical: what copies of one file reach, and no two different real photographs.
_SAME = 0.975
# Too few pictures tell nothing of what they have in common; then only the nearest are taken.
_ENOUGH = 25
_MOST_COMPONENTS = 8
# Weaker grain, in grey values, is mostly rounding; and where it is no stronger than what compression leaves of it,
# pictures that are not plain are the same where they differ by as little.
_LEAST_GRAIN, _WEAK_GRAIN, _LEAST_CONTRAST, _SAME_GREY = 0.5, 1.5, 2.0, 1.2
_BLOCK = 256
# A larger family says that the method may not tell these pictures apart.
_LARGEST_SHARE, _LARGE = 0.2, 20
# More than half of a set are no series of one picture before they agree further than parts of one kind do.
_SERIES_SHARE, _STRICTER = 0.5, (0.99, 0.997)


def with_twins(dataset: Dataset, photographs: Sequence[Photograph]) -> Dataset:
    """The data set with its photographs, and the groups of twins made one.

    Of families that are too large to be twins only those nearly identical stay together, which is noted, as are twins
    of different classes. Equal files are twins whatever they show.
    """
    samples = dataset.samples
    thumbnails = np.stack([photograph.seen.thumbnail for photograph in photographs])
    notes = list(dataset.notes)
    first: dict[str, int] = {}
    links = [(first.setdefault(sample.sha256, index), index) for index, sample in enumerate(samples)]
    for family, pairs, is_large in _told_apart(thumbnails):
        links += pairs
        if not is_large:
            continue
        together = len({index for pair in pairs for index in pair})
        said = f"only the {together} that are nearly identical are grouped" if together else "they are not grouped"
        notes.append(
            f"{len(family)} images, {samples[family[0]].path.name} first, look so much alike that twins cannot be "
            f"told from other parts of one kind; {said}"
        )
    families = _connected(len(samples), links)
    differing = [family for family in families if len({samples[index].labels for index in family}) > 1]
    if differing:
        one, other = _contradiction(samples, differing[0])
        notes.append(
            f"{len(differing)} families of twins carry different labels, for example {one.path.name} "
            f"({', '.join(one.labels)}) and {other.path.name} ({', '.join(other.labels)}); look which is right"
        )
    groups = joined_groups(samples, families)
    grouped = tuple(replace(sample, group=groups[sample.group]) for sample in samples)
    return replace(
        dataset,
        samples=grouped,
        sha256=data_sha256(dataset.root, grouped),
        notes=tuple(notes),
        photographs=tuple(photographs),
        twins=tuple(tuple(samples[index].path for index in family) for family in families),
    )


def twins_of(held: NDArray[np.uint8], thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pictures are near-duplicates of one that is held, bool [N], found as `with_twins` finds them.

    Args:
        held: uint8 [M, S, S], grey.
        thumbnails: uint8 [N, S, S], grey.
    """
    found = np.zeros(len(thumbnails), np.bool_)
    if not len(held) or not len(thumbnails):
        return found
    together = np.concatenate([held, thumbnails])
    links = [pair for _, pairs, _ in _told_apart(together) for pair in pairs]
    for family in _connected(len(together), links):
        if family[0] < len(held):
            found[[index - len(held) for index in family if index >= len(held)]] = True
    return found


def twin_pairs(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs (i < j) whose chains are the families of near-duplicates: each picture with the next of its family.

    Args:
        thumbnails: uint8 [N, S, S], grey.
    """
    count = len(thumbnails)
    hashes, fine, coarse = _hashes(thumbnails), _fine(thumbnails), _coarse(thumbnails)
    pairs = _same_pairs(thumbnails, hashes, fine, coarse, _SAME)
    if count >= _ENOUGH:
        for cluster in _connected(count, _pairs(hashes, (fine, _FINE), (coarse, _COARSE))):
            if len(cluster) <= _LARGE:
                pairs += [(cluster[0], index) for index in cluster]
                continue
            own = _own(fine[cluster])
            found = _pairs(hashes[cluster], (own, _OWN), (fine[cluster], _FINE), (coarse[cluster], _COARSE))
            pairs += [(cluster[one], cluster[other]) for one, other in found]
    return [pair for family in _connected(count, pairs) for pair in itertools.pairwise(family)]


def _told_apart(thumbnails: NDArray[np.uint8]) -> Iterator[tuple[list[int], list[tuple[int, int]], bool]]:
    """Each family of pictures, pairs of those of it that are twins, and whether it is too large for all to be twins."""
    count = len(thumbnails)
    for family in _connected(count, twin_pairs(thumbnails)):
        if len(family) <= max(_LARGE, _LARGEST_SHARE * count):
            yield family, [(family[0], index) for index in family], False
        else:
            kept = _nearly_identical(thumbnails[family], _SERIES_SHARE * count)
            yield family, [(family[one], family[other]) for one, other in kept], True


def _nearly_identical(thumbnails: NDArray[np.uint8], most: float) -> list[tuple[int, int]]:
    """Chains of those pictures that hardly differ, by the first bound that leaves no more than `most` together."""
    arrays = _hashes(thumbnails), _fine(thumbnails), _coarse(thumbnails)
    for least in (_SAME, *_STRICTER):
        pairs = _same_pairs(thumbnails, *arrays, least)
        if max(map(len, _connected(len(thumbnails), pairs)), default=0) <= most:
            return pairs
    return _equal_pairs(thumbnails)


def _same_pairs(
    thumbnails: NDArray[np.uint8],
    hashes: NDArray[np.float32],
    fine: NDArray[np.float32],
    coarse: NDArray[np.float32],
    least: float,
) -> list[tuple[int, int]]:
    """Chains of pictures that correlate as copies of one do; at the usual bound also those of weak grain."""
    pairs = _equal_pairs(thumbnails) + _pairs(hashes, (fine, least), (coarse, least))
    return pairs + _weak_pairs(thumbnails) if least == _SAME else pairs


def _equal_pairs(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    first: dict[bytes, int] = {}
    shown = np.flatnonzero(thumbnails.std(axis=(1, 2)) >= _LEAST_CONTRAST).tolist()
    pairs = [(first.setdefault(thumbnails[index].tobytes(), index), index) for index in shown]
    return [(one, other) for one, other in pairs if one != other]


def _weak_pairs(thumbnails: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Chains of pictures with shading and hardly any grain whose grey values agree, but for the brightness."""
    grey = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    weak = (grey.std(axis=1) >= _LEAST_CONTRAST) & (_grain(thumbnails).std(axis=1) < _WEAK_GRAIN)
    places = np.flatnonzero(weak)
    shading = grey[places] - grey[places].mean(axis=1, keepdims=True)
    power = np.square(shading).mean(axis=1)
    labels: NDArray[np.int64] = np.arange(len(places), dtype=np.int64)
    for start in range(0, len(places), _BLOCK):
        products = shading[start : start + _BLOCK] @ shading.T / grey.shape[1]
        near = power[start : start + _BLOCK, None] + power - 2 * products <= _SAME_GREY**2
        first, second = np.nonzero(near)
        labels = _merged(labels, first + start, second)
    return [(int(places[one]), int(places[other])) for one, other in _chains(labels)]


def _pairs(hashes: NDArray[np.float32], *bounds: tuple[NDArray[np.float32], float]) -> list[tuple[int, int]]:
    """Chains of the pictures whose hashes agree and whose unit vectors all have products of at least their bounds."""
    count, bits = hashes.shape
    labels: NDArray[np.int64] = np.arange(count, dtype=np.int64)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        near = np.triu(hashes[rows] @ hashes[start:].T >= bits * (1 - 2 * _LARGEST_DISTANCE), 1)
        columns: NDArray[np.int64] = np.arange(start, count, dtype=np.int64)
        for vectors, least in bounds:
            some = near.any(axis=0)
            columns, near = columns[some], near[:, some]
            near &= vectors[rows] @ vectors[columns].T >= least
        first, second = np.nonzero(near)
        labels = _merged(labels, first + start, columns[second])
    return _chains(labels)


def _merged(labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Families by number once pairs are joined too; many pairs of few pictures would not fit the memory as pairs."""
    count = len(labels)
    graph = coo_matrix((np.ones(len(first), np.bool_), (labels[first], labels[second])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1][labels], np.int64)


def _chains(labels: NDArray[np.int64]) -> list[tuple[int, int]]:
    order = np.argsort(labels, kind="stable")
    joined = np.flatnonzero(labels[order][1:] == labels[order][:-1])
    return list(zip(order[joined].tolist(), order[joined + 1].tolist(), strict=True))


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Signs of low frequencies, float32 [N, B] of -1 and 1, so that a product counts agreements."""
    low = [cv2.dct(thumbnail.astype(np.float32))[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:] for thumbnail in thumbnails]
    return np.where(np.stack(low) > 0, 1, -1).astype(np.float32)


def _grain(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = thumbnails.astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(picture, (0, 0), _BLUR) for picture in grey])
    return np.asarray((grey - blurred).reshape(len(grey), -1))


def _fine(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The grain of each picture as a unit vector, or zeros where it has none."""
    grain = _grain(thumbnails)
    grain[grain.std(axis=1) < _LEAST_GRAIN] = 0
    return _unit(grain)


def _coarse(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _unit(thumbnails.reshape(len(thumbnails), -1).astype(np.float32))


def _own(fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of the grain is not common to the pictures, as unit vectors."""
    own = fine - fine.mean(axis=0)
    components = min(_MOST_COMPONENTS, len(fine) // _ENOUGH)
    if components:
        _, _, directions = randomized_svd(own, n_components=components, random_state=0)
        own -= (own @ directions.T) @ directions
    return _unit(own)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 1e-6))


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


def joined_groups(samples: Sequence[Sample], families: Iterable[Sequence[int]]) -> dict[str, str]:
    """What each group is called once those of a family are one: the first of their names.

    Args:
        samples: all that there are.
        families: places of samples that belong together, none of them empty.
    """
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

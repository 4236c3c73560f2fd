"""The guided filter: a coarse map takes on the edges of its photograph.

K. He, J. Sun and X. Tang, "Guided image filtering", ECCV 2010, equations 4 to 8: around each pixel the map is fitted by
a straight line of the photograph's brightness, the steeper the more brightness varies there beyond `noise`; a pixel's
value is the mean of what the lines around it say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def guided(
    values: NDArray[np.float32], grey: NDArray[np.float32], reach: tuple[int, int], noise: float
) -> NDArray[np.float32]:
    """Filter a map float32 [h, w] by a photograph's brightness float32 [h, w], in one unit with the root of `noise`.

    `reach`: pixels from the middle of a window to its border, (down, across), at least 1; where windows stand over the
    image's border, it is mirrored.
    """

    window = (2 * reach[1] + 1, 2 * reach[0] + 1)

    def mean(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(image, window, borderType=cv2.BORDER_REFLECT), np.float32)

    # About its own mean, lest squares of large numbers swallow small differences in single precision.
    grey = np.asarray(grey - grey.mean(), np.float32)
    mean_grey, mean_values = mean(grey), mean(values)
    variance: NDArray[np.float32] = np.maximum(mean(grey * grey) - mean_grey * mean_grey, 0)
    slope: NDArray[np.float32] = (mean(grey * values) - mean_grey * mean_values) / (variance + np.float32(noise))
    level: NDArray[np.float32] = mean_values - slope * mean_grey
    return mean(slope) * grey + mean(level)

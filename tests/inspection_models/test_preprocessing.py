"""Preprocessing: where pixels go, and that they come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspection_models.images import ImageError
from inspection_models.preprocessing import Preprocessing, resample

MEAN, STD = (127.0, 120.0, 110.0), (128.0, 60.0, 50.0)
SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700))
NETWORK_SIZES = st.tuples(st.integers(8, 300), st.integers(8, 300))
Size = tuple[int, int]
MODES = st.sampled_from(["letterbox", "resize"])


def preprocessing(mode: str = "letterbox", size: tuple[int, int] = (64, 64), **options: object) -> Preprocessing:
    return Preprocessing(mode, size, MEAN, STD, **options)


@given(MODES, SIZES, NETWORK_SIZES, st.data())
def test_points_go_there_and_back(mode: str, image_size: Size, network_size: Size, data: st.DataObject) -> None:
    placement = preprocessing(mode, network_size).placement(image_size)
    x = data.draw(st.floats(0, image_size[1]))
    y = data.draw(st.floats(0, image_size[0]))
    there = placement.points_to_network(np.array([[x, y]]))
    np.testing.assert_allclose(placement.points_to_image(there), [[x, y]], atol=1e-6)
    assert -1e-9 <= there[0, 0] <= network_size[1] + 1e-9
    assert -1e-9 <= there[0, 1] <= network_size[0] + 1e-9


@given(MODES, SIZES, NETWORK_SIZES)
def test_the_image_lies_whole_on_whole_pixels_of_the_input(mode: str, image_size: Size, network_size: Size) -> None:
    placement = preprocessing(mode, network_size).placement(image_size)
    corners = placement.points_to_network(np.array([[0, 0], [image_size[1], image_size[0]]], float))
    np.testing.assert_allclose(corners, np.rint(corners), atol=1e-9)
    (top, left), (height, width) = placement.offset, placement.content_size
    assert top >= 0
    assert left >= 0
    assert 1 <= height <= network_size[0] - top
    assert 1 <= width <= network_size[1] - left
    if mode == "letterbox":
        # At most one pixel of padding more on one side, and one axis filled to the brim.
        assert abs(network_size[0] - height - 2 * top) <= 1
        assert abs(network_size[1] - width - 2 * left) <= 1
        assert height == network_size[0] or width == network_size[1]
    else:
        assert placement.content_size == network_size


@given(st.integers(40, 900), st.integers(40, 900))
def test_letterbox_keeps_the_aspect_ratio_to_half_a_pixel(height: int, width: int) -> None:
    placement = preprocessing(size=(224, 160)).placement((height, width))
    factor = min(224 / height, 160 / width)
    assert abs(placement.content_size[0] - height * factor) <= 0.5 + 1e-9
    assert abs(placement.content_size[1] - width * factor) <= 0.5 + 1e-9


def blob(size: tuple[int, int], centre: tuple[float, float], spread: tuple[float, float]) -> np.ndarray:
    """A Gaussian blob sampled at the pixels' centres; centre and spread as (x, y)."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.exp(-(((x - centre[0]) / spread[0]) ** 2 + ((y - centre[1]) / spread[1]) ** 2) / 2).astype(np.float32)


def centroid(values: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] + 0.5
    return np.array([(x * values).sum(), (y * values).sum()]) / values.sum()


@settings(max_examples=60, deadline=None)
@given(
    MODES,
    st.tuples(st.integers(60, 600), st.integers(60, 600)),
    st.tuples(st.integers(64, 256), st.integers(64, 256)),
    st.floats(0.4, 0.6),
    st.floats(0.4, 0.6),
)
def test_a_blob_in_a_map_comes_back_where_it_was(
    mode: str, image_size: Size, network_size: Size, right: float, down: float
) -> None:
    placement = preprocessing(mode, network_size).placement(image_size)
    centre = np.array([right * image_size[1], down * image_size[0]])
    at = placement.points_to_network(centre)
    # Narrow enough to end before the image's border.
    spread = (placement.content_size[1] * 0.06 + 0.3, placement.content_size[0] * 0.06 + 0.3)
    returned = placement.map_to_image(blob(network_size, tuple(at), spread))
    assert returned.shape == image_size
    assert returned.dtype == np.float32
    np.testing.assert_allclose(centroid(returned), centre, atol=0.5)


@settings(max_examples=60, deadline=None)
@given(MODES, st.tuples(st.integers(60, 600), st.integers(60, 600)), st.floats(0.35, 0.65), st.floats(0.35, 0.65))
def test_a_blob_in_an_image_arrives_where_the_placement_says(
    mode: str, image_size: Size, right: float, down: float
) -> None:
    centre = (right * image_size[1], down * image_size[0])
    grey = np.rint(250 * blob(image_size, centre, (image_size[1] * 0.07, image_size[0] * 0.07))).astype(np.uint8)
    fitted, placement = preprocessing(mode, (128, 96), fill=(0, 0, 0)).fit(np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_allclose(centroid(fitted[..., 1]), placement.points_to_network(np.array(centre)), atol=0.3)


def test_normalisation_and_padding() -> None:
    pixels = np.full((20, 10, 3), (255, 0, 110), np.uint8)
    inputs, placement = preprocessing(size=(40, 40)).apply(pixels)
    assert inputs.shape == (3, 40, 40)
    assert str(inputs.dtype) == "torch.float32"
    assert placement.offset == (0, 10)
    assert placement.content_size == (40, 20)
    np.testing.assert_allclose(inputs[:, 20, 20], [(255 - 127) / 128, (0 - 120) / 60, 0.0], atol=1e-6)
    assert (inputs[:, :, :10] == 0).all()
    assert (inputs[:, :, 30:] == 0).all()
    filled, _ = preprocessing(size=(40, 40), fill=(255, 255, 255)).apply(pixels)
    np.testing.assert_allclose(filled[:, 0, 0], [1.0, 2.25, 2.9], atol=1e-6)


def test_shrinking_is_an_area_mean_also_where_the_other_axis_grows() -> None:
    values = np.random.default_rng(0).random((12, 5)).astype(np.float32)
    shrunk = resample(values, (4, 5))
    np.testing.assert_allclose(shrunk, values.reshape(4, 3, 5).mean(axis=1), rtol=1e-6)
    both = resample(values, (4, 10))
    np.testing.assert_allclose(both[:, 0], shrunk[:, 0], rtol=1e-6)
    np.testing.assert_allclose(both[:, 1], 0.75 * shrunk[:, 0] + 0.25 * shrunk[:, 1], rtol=1e-5)


def test_a_map_of_another_size_is_refused() -> None:
    placement = preprocessing().placement((30, 30))
    with pytest.raises(ValueError, match="upsample"):
        placement.map_to_image(np.zeros((32, 32), np.float32))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_rgb_image_is_refused(pixels: object) -> None:
    with pytest.raises(ImageError):
        preprocessing().apply(pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mode": "crop"}, "mode"), ({"size": (0, 4)}, "size"), ({"std": (1.0, 0.0, 1.0)}, "std")],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    fields = {"mode": "resize", "size": (8, 8), "mean": MEAN, "std": STD} | changes
    with pytest.raises(ValueError, match=message):
        Preprocessing(**fields)

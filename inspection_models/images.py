"""Image bytes to pixels: bounded, EXIF-turned, always 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
DEFAULT_MAX_PIXELS = 100_000_000

_EXIF_ORIENTATION = 0x0112
_MODES_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


class ImageError(ValueError):
    """The bytes are not an image that can be inspected; the message says why and what to do."""


@dataclass(frozen=True)
class DecodedImage:
    """Pixels as a viewer shows them, with the identities of file and content.

    Attributes:
        pixels: uint8 [H, W, 3], RGB, already turned according to EXIF.
        sha256: hex digest of the file's bytes.
        pixel_sha256: hex digest of ``"HxW:"`` followed by the pixels in row order; equal for equal pictures in
            different files.
        exif_orientation: the file's EXIF orientation, 1 to 8; 1 where it has none.
        media_type: such as ``image/jpeg``.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    pixel_sha256: str
    exif_orientation: int
    media_type: str


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decode the first frame of a BMP, GIF, JPEG, PNG, TIFF or WebP file.

    Transparency is laid over white, 16-bit grey is divided by 257 as browsers do, other modes are converted to RGB.

    Args:
        data: the file.
        max_pixels: the largest width x height, checked in the header before anything is decoded.

    Raises:
        ImageError: the data is empty, not one of the formats, damaged, truncated, too large or of a pixel type
            whose range is unknown.
    """
    if not data:
        raise ImageError("the image file is empty; export or upload it again")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, max_pixels)
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
            media_type = "image/jpeg" if image.format == "MPO" else Image.MIME[str(image.format)]
            image.load()
            pixels = _rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format; use one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has far too many pixels, the limit is {max_pixels}; crop or shrink it") from error
    except Exception as error:  # a hostile file makes a decoder raise anything at all
        raise ImageError(f"the image is damaged or truncated ({error}); export or upload it again") from error
    return DecodedImage(
        pixels=pixels,
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels),
        exif_orientation=orientation if orientation in range(1, 9) else 1,
        media_type=media_type,
    )


def read_image(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Read and decode a file.

    Raises:
        ImageError: as `decode_image`, or the file cannot be read; the message begins with the path.
    """
    try:
        return decode_image(path.read_bytes(), max_pixels=max_pixels)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """Hex digest of ``"HxW:"`` and the pixels of a uint8 [H, W, 3] image in row order."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the image is {width} x {height} pixels; it shows nothing")
    if width * height > max_pixels:
        raise ImageError(
            f"the image is {width} x {height} = {width * height} pixels, the limit is {max_pixels}; crop or shrink it"
        )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        grey = _eight_bit(np.asarray(image), image.mode)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _eight_bit(values: NDArray[np.generic], mode: str) -> NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    full_scale = 1.0 if mode == "F" else 65535.0
    if not np.isfinite(numbers).all() or numbers.min() < 0 or numbers.max() > full_scale:
        raise ImageError(
            f"its grey values lie outside 0 to {full_scale:g}, so what is white is unknown; save it with 8 or 16 bits"
        )
    return np.rint(numbers * (255.0 / full_scale)).astype(np.uint8)

"""Image bytes to pixels: bounded, EXIF-turned, always 8-bit RGB."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from inspection_models.tiff_tiles import largest_tile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# 20,000 x 20,000: for files that a user hands over. The desk, which reads strangers' files, has a bound of its own.
DEFAULT_MAX_PIXELS = 400_000_000

_EXIF_ORIENTATION = 0x0112
# A tile of a small picture may be larger than it, but not by far.
_LARGEST_SPARE_TILE = 2048 * 2048
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What 16-bit grey becomes: divided by 257 as browsers do, rounded.
_DIVIDED_BY_257 = ((np.arange(65536, dtype=np.uint32) + 128) // 257).astype(np.uint8)
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


@dataclass(frozen=True)
class Glance:
    """What a file holds, without its pixels at full size.

    Attributes:
        size: height and width as a viewer shows it.
        file_format: one of `FORMATS`.
        mode: Pillow's name of the pixel type: ``L``, ``RGB``, ``P``, ``I;16``, ...
        bits: of one channel of a pixel in the file.
        frames: pages or frames; only the first is ever read.
        exif_orientation: 1 to 8; 1 where the file has none.
        thumbnail: uint8 [N, N], grey, already turned according to EXIF, the proportions not kept.
    """

    size: tuple[int, int]
    file_format: str
    mode: str
    bits: int
    frames: int
    exif_orientation: int
    thumbnail: NDArray[np.uint8]


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> DecodedImage:
    """Decode the first frame of a BMP, GIF, JPEG, PNG, TIFF or WebP file.

    Transparency is laid over white, 16-bit grey is divided by 257 as browsers do, other modes are converted to RGB.

    Args:
        data: the file.
        max_pixels: the largest width x height, checked in the header before anything is decoded. More than Pillow's own
            bound raises that one for the whole process.

    Raises:
        ImageError: the data is empty, not one of the formats, damaged, truncated, too large or of a pixel type
            whose range is unknown.
    """
    with _opened(data, max_pixels) as image:
        orientation = _orientation(image)
        media_type = "image/jpeg" if image.format == "MPO" else Image.MIME[str(image.format)]
        image.load()
        pixels = _rgb(ImageOps.exif_transpose(image))
    return DecodedImage(
        pixels=pixels,
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels),
        exif_orientation=orientation,
        media_type=media_type,
    )


def glance(data: bytes, *, side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> Glance:
    """Decode a file for its thumbnail of `side` x `side` pixels, faster than at full size.

    Every byte of the pixels is decoded, so damage is found as `decode_image` finds it.

    Raises:
        ImageError: as `decode_image`.
    """
    with _opened(data, max_pixels) as image:
        orientation, mode, bits = _orientation(image), image.mode, _bits(image)
        size = _shown(image, orientation)
        # The second picture within a photograph of a telephone is a preview of the first.
        frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        if mode in ("L", "RGB"):
            image.draft(mode, (2 * side, 2 * side))
        image.load()
        still_to_turn = _TURNS.get(_orientation(image))
        # Small first, then turned; what the rules of `_rgb` are about must be seen at full size.
        plain = image.mode in ("L", "RGB") and "transparency" not in image.info
        small = image if plain else Image.fromarray(_rgb(image))
        small = small.resize((side, side), Image.Resampling.BOX).convert("L")
        thumbnail = np.array(small if still_to_turn is None else small.transpose(still_to_turn))
        file_format = "JPEG" if image.format == "MPO" else str(image.format)
    return Glance(size, file_format, mode, bits, frames, orientation, thumbnail)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a file as a viewer shows it, from its header alone.

    Raises:
        ImageError: it is missing or no image; the message begins with the path.
    """
    try:
        # Only the header is read, so its size needs no bound.
        with Image.open(path, formats=FORMATS) as image:
            return _shown(image, _orientation(image))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: the image has far too many pixels; crop or shrink it") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image of a known format; use one of {', '.join(FORMATS)}") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a hostile file makes a decoder raise anything at all
        raise ImageError(f"{path}: the image is damaged ({error}); export it again") from error


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


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """An image whose header is read and whose size is allowed; whatever is raised within becomes an `ImageError`."""
    if not data:
        raise ImageError("the image file is empty; export or upload it again")
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, max_pixels)
            if image.format == "TIFF":
                _check_tile(largest_tile(data), image.size)
            yield image
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_STARTS):
            raise ImageError("this kind of TIFF cannot be read; save it as grey or RGB with 8 or 16 bits") from error
        raise ImageError(f"not an image of a known format; use one of {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image has far too many pixels, the limit is {max_pixels}; crop or shrink it") from error
    except Exception as error:  # a hostile file makes a decoder raise anything at all
        raise ImageError(f"the image is damaged or truncated ({error}); export or upload it again") from error


def _orientation(image: Image.Image) -> int:
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _shown(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Height and width on the screen of a picture that is not loaded yet."""
    width, height = image.size
    # Pillow turns a TIFF itself when it loads it, and says so of its size before.
    return (width, height) if orientation >= 5 and image.format != "TIFF" else (height, width)


def _bits(image: Image.Image) -> int:
    if image.mode == "1":
        return 1
    if image.mode in ("I", "F"):
        return 32
    # The mode says 8 where Pillow reads the upper half of 16 bits; how it reads is told by the file's tiles.
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return 16 if image.mode.startswith("I;16") or any("16" in str(tile[3]) for tile in tiles) else 8


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the image is {width} x {height} pixels; it shows nothing")
    if width * height > max_pixels:
        raise ImageError(
            f"the image is {width} x {height} = {width * height} pixels, the limit is {max_pixels}; crop or shrink it"
        )


def _check_tile(tile: tuple[int, int], size: tuple[int, int]) -> None:
    """A tile is decoded whole, however little of it the picture shows."""
    if tile[0] * tile[1] > max(size[0] * size[1], _LARGEST_SPARE_TILE):
        raise ImageError(
            f"its tiles have {tile[0]} x {tile[1]} pixels, the whole image only {size[0]} x {size[1]}; "
            "save it without tiles"
        )


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        grey = _eight_bit(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in _MODES_WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bit(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey of a type wider than 8 bits: whole numbers from 0 to 65535, or fractions from 0 to 1."""
    whole = np.issubdtype(values.dtype, np.integer)
    full_scale = 65535 if whole else 1
    lowest, highest = float(np.min(values)), float(np.max(values))  # NaN if any value is
    if not (lowest >= 0 and highest <= full_scale):
        raise ImageError(
            f"its grey values lie outside 0 to {full_scale}, so what is white is unknown; save it with 8 or 16 bits"
        )
    if whole:
        return np.asarray(_DIVIDED_BY_257[values])
    eight: NDArray[np.uint8] = np.rint(values.astype(np.float32) * np.float32(255)).astype(np.uint8)
    return eight

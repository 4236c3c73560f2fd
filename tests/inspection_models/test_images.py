"""Images: every container and pixel type comes out as the same RGB, and nothing hostile gets through."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inspection_models.images import ImageError, decode_image, glance, image_size, pixel_sha256, read_image

# Where row 0 and column 0 of the stored picture belong, by EXIF 2.3 table 4.6.4: the turned picture of a stored one.
TURN_BY_ORIENTATION = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: stored[::-1].transpose(1, 0, 2),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: stored[:, ::-1].transpose(1, 0, 2),
}


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def noise(height: int = 7, width: int = 11) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def png_header_only(width: int, height: int) -> bytes:
    """A small PNG that promises a large picture of black pixels and keeps it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(b"\0" * ((width // 8 + 1) * min(height, 2000)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_the_stored_pixels(file_format: str) -> None:
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = encoded(Image.fromarray(noise()), file_format, **options)
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded.pixels, noise())
    assert decoded.media_type == f"image/{file_format.lower()}"
    assert decoded.sha256 == hashlib.sha256(data).hexdigest()
    assert decoded.exif_orientation == 1
    assert decoded.pixels.flags.writeable
    assert decoded.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", TURN_BY_ORIENTATION)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_applied_once(orientation: int, file_format: str) -> None:
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[8:16, 40:56] = (250, 40, 10)
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if file_format == "JPEG" else {}
    decoded = decode_image(encoded(image, file_format, exif=exif, **options))
    expected = TURN_BY_ORIENTATION[orientation](stored)
    assert decoded.pixels.shape == expected.shape
    assert np.abs(decoded.pixels.astype(int) - expected).max() <= (12 if file_format == "JPEG" else 0)
    assert decoded.exif_orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_out_of_range_means_none(orientation: int) -> None:
    image = Image.fromarray(noise())
    exif = image.getexif()
    exif[0x0112] = orientation
    decoded = decode_image(encoded(image, "PNG", exif=exif))
    assert decoded.exif_orientation == 1
    np.testing.assert_array_equal(decoded.pixels, noise())


def test_pixel_hash_is_that_of_the_picture_not_of_the_file() -> None:
    image = Image.fromarray(noise())
    one, other = decode_image(encoded(image, "PNG")), decode_image(encoded(image, "BMP"))
    assert one.pixel_sha256 == other.pixel_sha256 == hashlib.sha256(b"7x11:" + noise().tobytes()).hexdigest()
    assert one.sha256 != other.sha256
    assert pixel_sha256(noise().reshape(11, 7, 3)) != one.pixel_sha256


def test_sixteen_bit_grey_is_scaled_like_in_browsers() -> None:
    grey = np.array([[0, 256, 32768, 65535]], np.uint16)
    expected = np.rint(grey / 257).astype(np.uint8)
    for file_format in ("PNG", "TIFF"):
        pixels = decode_image(encoded(Image.fromarray(grey), file_format)).pixels
        np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


def test_float_grey_in_0_to_1_is_scaled_and_any_other_range_refused() -> None:
    def tiff(values: list[list[float]]) -> bytes:
        return encoded(Image.fromarray(np.array(values, np.float32)), "TIFF")

    assert decode_image(tiff([[0.0, 0.5, 1.0]])).pixels[0, :, 0].tolist() == [0, 128, 255]
    for values in ([[0.0, 1.5]], [[-0.1, 0.2]], [[float("nan"), 0.2]]):
        with pytest.raises(ImageError, match="8 or 16 bits"):
            decode_image(tiff(values))


def test_transparency_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 51]]], np.uint8), "RGBA")
    pixels = decode_image(encoded(image, "PNG")).pixels
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[0, 1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(pixels[0, 2], [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255], atol=1)


def test_a_palette_with_a_transparent_entry_is_laid_over_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    pixels = decode_image(encoded(image, "PNG", transparency=1)).pixels
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_grey_bilevel_and_cmyk_become_rgb() -> None:
    assert decode_image(encoded(Image.new("L", (3, 2), 77), "PNG")).pixels.tolist() == [[[77] * 3] * 3] * 2
    assert decode_image(encoded(Image.new("1", (3, 2), 1), "PNG")).pixels.tolist() == [[[255] * 3] * 3] * 2
    cmyk = decode_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100))
    assert np.abs(cmyk.pixels.astype(int) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("file_format", ["GIF", "TIFF"])
def test_of_several_frames_the_first_counts(file_format: str) -> None:
    first, second = Image.new("RGB", (9, 5), (255, 0, 0)), Image.new("RGB", (9, 5), (0, 0, 255))
    data = encoded(first, file_format, save_all=True, append_images=[second])
    assert decode_image(data).pixels[2, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_extreme_shapes(size: tuple[int, int]) -> None:
    assert decode_image(encoded(Image.new("RGB", size), "PNG")).pixels.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 1)])
def test_the_longest_sides(size: tuple[int, int]) -> None:
    data = encoded(Image.new("L", size, 200), "PNG")
    assert decode_image(data).pixels.shape == (size[1], size[0], 3)
    seen = glance(data, side=8)
    assert seen.size == (size[1], size[0])
    assert (seen.thumbnail == 200).all()


def test_a_larger_bound_than_pillow_s_own_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = encoded(Image.new("L", (80, 90), 7), "PNG")
    with pytest.raises(ImageError, match="the limit is 1000"):
        decode_image(data, max_pixels=1000)
    assert decode_image(data, max_pixels=7200).pixels.shape == (90, 80, 3)
    assert glance(data, side=4, max_pixels=7200).size == (90, 80)


@pytest.mark.slow
def test_twenty_thousand_pixels_a_side_are_read_and_no_more() -> None:
    data = encoded(Image.new("1", (20_000, 20_000), 1), "PNG")
    assert decode_image(data).pixels.shape == (20_000, 20_000, 3)
    with pytest.raises(ImageError, match="pixels, the limit is 400000000"):
        decode_image(encoded(Image.new("1", (20_001, 20_000), 1), "PNG"))


@pytest.mark.parametrize("orientation", TURN_BY_ORIENTATION)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_a_glance_sees_the_turned_picture(orientation: int, file_format: str, tmp_path: Path) -> None:
    rows, columns = np.indices((48, 64))
    image = Image.fromarray((rows * 3 + columns).astype(np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = encoded(image, file_format, exif=exif)
    (tmp_path / "x").write_bytes(data)
    pixels = decode_image(data).pixels
    seen = glance(data, side=16)
    assert seen.size == image_size(tmp_path / "x") == pixels.shape[:2]
    assert (seen.exif_orientation, seen.file_format, seen.mode, seen.bits) == (orientation, file_format, "L", 8)
    expected = np.asarray(Image.fromarray(pixels).convert("L").resize((16, 16), Image.Resampling.BOX)).astype(int)
    assert np.abs(seen.thumbnail - expected).max() <= 4


def test_a_glance_tells_pixel_types_and_pages() -> None:
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    deep = glance(encoded(Image.fromarray(grey), "TIFF"), side=8)
    assert (deep.bits, deep.mode) == (16, "I;16")
    np.testing.assert_array_equal(deep.thumbnail, np.rint(grey / 257))
    one = Image.new("L", (5, 4))
    assert glance(encoded(one, "TIFF", save_all=True, append_images=[one, one]), side=2).frames == 3
    assert glance(encoded(Image.new("1", (5, 4)), "PNG"), side=2).bits == 1
    clear = Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA")
    assert (glance(encoded(clear, "PNG"), side=2).thumbnail == 255).all()
    palette = Image.new("P", (2, 2))
    palette.putpalette([10, 20, 30, 200, 200, 200])
    palette.putpixel((0, 0), 1)
    assert glance(encoded(palette, "PNG"), side=2).thumbnail[0, 0] == 200


def test_signed_and_strange_tiffs_are_refused_with_what_to_do() -> None:
    signed = encoded(Image.fromarray(np.array([[-5, 3]], np.int32)), "TIFF")
    for read in (decode_image, lambda data: glance(data, side=2)):
        with pytest.raises(ImageError, match="outside 0 to 65535"):
            read(signed)
        with pytest.raises(ImageError, match="this kind of TIFF cannot be read; save it as grey or RGB"):
            read(b"II*\0" + struct.pack("<IHHHII", 8, 1, 262, 3, 1, 60_000) + bytes(4))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_glance_refuses_a_truncated_file(file_format: str) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), file_format)
    with pytest.raises(ImageError):
        glance(data[: len(data) * 8 // 10], side=8)


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = png_header_only(60_000, 60_000)
    assert len(bomb) < 40_000
    with pytest.raises(ImageError, match="pixels, the limit is"):
        decode_image(bomb)
    modest = png_header_only(2000, 2000)
    with pytest.raises(ImageError, match="4000000 pixels, the limit is 3999999"):
        decode_image(modest, max_pixels=3_999_999)
    assert decode_image(modest, max_pixels=4_000_000).pixels.shape == (2000, 2000, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"not an image at all, just text" * 20, "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "not an image|damaged"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(file_format: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), file_format)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]), st.data())
def test_damage_raises_nothing_but_image_errors(file_format: str, data: st.DataObject) -> None:
    content = bytearray(encoded(Image.fromarray(noise(16, 16)), file_format))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(content), max_pixels=1_000_000)
    except ImageError:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.ndim == 3
    assert decoded.pixels.shape[2] == 3


def test_errors_of_files_name_the_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match=r"broken\.png: "):
        read_image(broken)
    with pytest.raises(ImageError, match=r"missing\.png: cannot be read"):
        read_image(tmp_path / "missing.png")

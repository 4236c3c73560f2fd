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
from inspection_models.tiff_tiles import largest_tile

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


def tiff(entries: list[tuple[int, int]], pixels: bytes = b"", *, big: bool = False, order: str = "<") -> bytes:
    """A TIFF of 8 x 8 grey pixels whose directory holds these entries besides, each a long."""
    offset = 16 + 20 * 11 + 8 if big else 10 + 12 * 11 + 4
    base = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (324, offset), (325, len(pixels))]
    listed = sorted([*base, *entries], key=lambda entry: entry[0])
    form = "HHQQ" if big else "HHII"
    ifd = b"".join(struct.pack(f"{order}{form}", tag, 4, 1, value) for tag, value in listed if order == "<")
    if order == ">":
        ifd = b"".join(struct.pack(f">HH{'QI4x' if big else 'II'}", tag, 4, 1, value) for tag, value in listed)
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, len(listed))
        return head + ifd + bytes(8) + pixels
    return mark + struct.pack(f"{order}HIH", 42, 8, len(listed)) + ifd + bytes(4) + pixels


@pytest.mark.parametrize(("order", "big"), [("<", False), ("<", True), (">", False)])
@pytest.mark.parametrize("twice", [False, True])
def test_tiles_far_larger_than_the_picture_are_not_decoded(order: str, big: bool, twice: bool) -> None:
    """Deflated zeros: a thousandth of the size, a gigabyte for 64 pixels."""
    huge = [(322, 32768), (323, 32768)]
    entries = [*huge, (322, 16), (323, 16)] if twice else huge
    data = tiff(entries, zlib.compress(bytes(1 << 20), 9), big=big, order=order)
    for read in (decode_image, lambda data: glance(data, side=2)):
        with pytest.raises(ImageError, match="tiles have 32768 x 32768 pixels"):
            read(data)
    assert largest_tile(tiff([(322, 16), (323, 32)], big=big, order=order)) == (16, 32)
    assert largest_tile(tiff([], big=big, order=order)) == (0, 0)


@pytest.mark.parametrize("tag", [322, 323])
@pytest.mark.parametrize(("kind", "values"), [(13, 1), (16, 1), (17, 1), (9, 1), (5, 1), (4, 2), (3, 0), (99, 1)])
def test_tiles_whose_size_could_be_read_in_two_ways_are_refused(tag: int, kind: int, values: int) -> None:
    """The decoder beneath takes more types than the standard names: IFD, and in a small TIFF those of 8 bytes."""
    # Of 8 bytes the entry holds the place: at 8 stand the number of entries and the first, which make a large number.
    data = tiff([(322, 16), (323, 16)], zlib.compress(bytes(256)))
    written = struct.pack("<HHII", tag, 4, 1, 16)
    data = data.replace(written, struct.pack("<HHII", tag, kind, values, 8 if kind in (16, 17) else 16))
    for read in (decode_image, lambda data: glance(data, side=2)):
        with pytest.raises(ImageError, match=f"size of its tiles is given as {values} values of type {kind}"):
            read(data)


@pytest.mark.parametrize(("kind", "form"), [(1, "B"), (3, "H"), (4, "I"), (16, "Q")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_of_tiles_is_read_in_each_type_of_the_standard(kind: int, form: str, order: str) -> None:
    data = tiff([(323, 77)], big=True, order=order)
    short = struct.pack(f"{order}HHQ", 323, 4, 1) + struct.pack(f"{order}{'Q' if order == '<' else 'I4x'}", 77)
    assert data.count(short) == 1
    value = struct.pack(f"{order}{form}", 77).ljust(8, b"\0")
    data = data.replace(short, struct.pack(f"{order}HHQ", 323, kind, 1) + value)
    assert largest_tile(data) == (0, 77)


def test_usual_tiles_are_read() -> None:
    data = encoded(Image.fromarray(noise(40, 40)), "TIFF", compression="tiff_deflate", tiffinfo={322: 256, 323: 256})
    np.testing.assert_array_equal(decode_image(data).pixels, noise(40, 40))


def bomb(file_format: str) -> bytes:
    """A small file whose header promises a very large picture."""
    side = 60_000
    if file_format == "BMP":
        return (
            b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, *[0] * 6)
        )
    if file_format == "GIF":
        return (
            b"GIF89a"
            + struct.pack("<HHBBB", side, side, 0, 0, 0)
            + b","
            + struct.pack("<4HB", 0, 0, side, side, 0)
            + b";"
        )
    if file_format == "WEBP":
        body = b"VP8X" + struct.pack("<IB3x", 10, 0) + (16_383).to_bytes(3, "little") * 2
        return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    if file_format == "JPEG":
        frame = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", side, side) + b"\x01\x01\x11\x00"
        return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(20) + b"\xff\xd9"
    return tiff([]).replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, side * side))


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "JPEG", "TIFF", "WEBP"])
def test_a_bomb_of_any_format_is_refused_by_its_header(file_format: str) -> None:
    data = bomb(file_format)
    assert len(data) < 1000
    with pytest.raises(ImageError, match=r"pixels, the limit is|damaged"):
        decode_image(data, max_pixels=100_000_000)


def test_of_very_many_frames_one_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Image.new("L", (9, 5), 7)
    data = encoded(frame, "GIF", save_all=True, append_images=[Image.new("L", (9, 5), n % 200) for n in range(300)])
    from PIL.GifImagePlugin import GifImageFile

    original, seeks = GifImageFile._seek, []

    def seek(self: GifImageFile, number: int, *rest: object, **options: object) -> None:
        seeks.append(number)
        original(self, number, *rest, **options)

    monkeypatch.setattr(GifImageFile, "_seek", seek)
    assert decode_image(data).pixels.shape == (5, 9, 3)
    assert set(seeks) == {0}


def test_a_compressed_text_of_a_png_is_not_unpacked_without_bound() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    plain = encoded(Image.fromarray(noise()), "PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    with pytest.raises(ImageError, match="Decompressed data too large"):
        decode_image(plain[:33] + text + plain[33:])


@pytest.mark.parametrize("tail", [b"<html><script>alert(1)</script></html>", b"PK\x03\x04" + bytes(60), b"%PDF-1.7"])
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP"])
def test_what_follows_a_picture_is_neither_read_nor_shown(file_format: str, tail: bytes) -> None:
    plain = encoded(Image.fromarray(noise()), file_format)
    decoded = decode_image(plain + tail)
    assert decoded.pixel_sha256 == decode_image(plain).pixel_sha256
    assert decoded.media_type == f"image/{file_format.lower()}"
    with pytest.raises(ImageError, match="not an image of a known format"):
        decode_image(tail + plain)


def test_the_content_says_what_a_file_is_not_its_name(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(Image.fromarray(noise()), "JPEG"))
    assert read_image(tmp_path / "photo.png").media_type == "image/jpeg"


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


@pytest.mark.slow
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

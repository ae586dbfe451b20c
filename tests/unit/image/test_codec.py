"""The codec: pictures of every kind become upright RGB; everything else is an ImageError."""

import contextlib
import io
import os
import struct
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kosmos.errors import ImageError
from kosmos.image.codec import (
    FORMATS,
    MAX_FILE_BYTES,
    SUFFIXES,
    UNREAD_SUFFIXES,
    decode,
    encode_jpeg,
    encode_png,
    image_format,
    image_size,
    read_encoded,
)
from tests.strategies import pictures

LIMIT = 1_000_000


def saved(picture: PIL.Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def gradient(width: int = 6, height: int = 4) -> PIL.Image.Image:
    """Every pixel different, so that no turn of it equals another."""
    values = np.arange(width * height * 3, dtype=np.uint8).reshape(height, width, 3)
    return PIL.Image.fromarray(values * 3)


def blocks() -> PIL.Image.Image:
    """Four flat quarters, which survive lossy compression."""
    quarters = np.array(
        [[[220, 30, 30], [30, 200, 30]], [[30, 30, 220], [240, 240, 240]]], np.uint8
    )
    return PIL.Image.fromarray(quarters.repeat(24, 0).repeat(40, 1))


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags


def same(a: PIL.Image.Image, b: PIL.Image.Image) -> bool:
    return a.mode == b.mode and a.size == b.size and a.tobytes() == b.tobytes()


# --- sources


def test_a_picture_is_the_same_from_path_bytes_image_and_array(tmp_path: Path) -> None:
    picture = gradient()
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(picture))
    for source in (path, str(path), path.read_bytes(), picture, np.asarray(picture)):
        assert same(decode(source, max_pixels=LIMIT), picture)
        assert image_size(source) == picture.size


@given(pictures())
def test_png_keeps_every_pixel(picture: PIL.Image.Image) -> None:
    data = encode_png(picture)
    assert same(decode(data, max_pixels=LIMIT), picture)
    assert image_size(data) == picture.size
    assert image_format(data) == "PNG"


def test_jpeg_stays_close_and_the_quality_is_obeyed() -> None:
    small, large = (encode_jpeg(blocks(), quality=quality) for quality in (20, 95))
    assert len(small) < len(large)
    assert image_format(large) == "JPEG"
    difference = np.abs(np.asarray(decode(large, max_pixels=LIMIT)).astype(int) - blocks())
    assert difference[:16, :32].max() <= 3  # inside a flat quarter; measured 1


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_and_named(kind: str) -> None:
    data = saved(blocks(), kind)
    picture = decode(data, max_pixels=LIMIT)
    assert picture.mode == "RGB"
    assert image_size(data) == picture.size == (80, 48)
    assert np.abs(np.asarray(picture).astype(int) - blocks())[4:20, 4:36].mean() < 8
    assert image_format(data) == kind


# --- what pictures become


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(kind: str, orientation: int) -> None:
    upright = blocks()
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    data = saved(stored, kind, exif=exif(orientation))
    picture = decode(data, max_pixels=LIMIT)
    assert image_size(data) == picture.size == upright.size
    assert np.abs(np.asarray(picture).astype(int) - upright).mean() < 8
    assert same(decode(picture, max_pixels=LIMIT), picture)


def test_an_impossible_or_broken_orientation_means_upright() -> None:
    for block in (exif(77).tobytes(), b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"):
        data = saved(blocks(), "JPEG", exif=block)
        assert image_size(data) == decode(data, max_pixels=LIMIT).size == (80, 48)


def test_alpha_is_composited_on_white() -> None:
    rgba = PIL.Image.new("RGBA", (3, 1))
    rgba.putdata([(200, 0, 0, 255), (200, 0, 0, 0), (200, 0, 0, 128)])
    colors = np.asarray(decode(saved(rgba, "PNG"), max_pixels=LIMIT))[0].tolist()
    assert colors[:2] == [[200, 0, 0], [255, 255, 255]]
    assert colors[2] == [227, 127, 127]


@given(pictures())
def test_opaque_alpha_changes_no_pixel(picture: PIL.Image.Image) -> None:
    rgba = picture.convert("RGBA")
    assert same(decode(saved(rgba, "PNG"), max_pixels=LIMIT), picture)


def test_grey_with_alpha_is_composited_on_white() -> None:
    picture = PIL.Image.new("LA", (2, 1))
    picture.putdata([(40, 255), (40, 0)])
    pixels = np.asarray(decode(saved(picture, "PNG"), max_pixels=LIMIT))
    assert pixels[0].tolist() == [[40] * 3, [255] * 3]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind: str) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putdata([0, 1])
    pixels = np.asarray(decode(saved(picture, kind, transparency=1), max_pixels=LIMIT))
    assert pixels[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_a_palette_with_alpha_for_each_entry_is_composited() -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 0, 0, 0])
    picture.putdata([0, 1])
    data = saved(picture, "PNG", transparency=bytes([255, 128]))
    pixels = np.asarray(decode(data, max_pixels=LIMIT))
    assert pixels[0].tolist() == [[10, 20, 30], [127, 127, 127]]


def test_a_color_key_becomes_white() -> None:
    picture = PIL.Image.new("RGB", (2, 1), (9, 9, 9))
    picture.putpixel((1, 0), (1, 2, 3))
    pixels = np.asarray(decode(saved(picture, "PNG", transparency=(1, 2, 3)), max_pixels=LIMIT))
    assert pixels[0].tolist() == [[9, 9, 9], [255, 255, 255]]


def test_one_bit_and_grey_become_rgb() -> None:
    one_bit = PIL.Image.new("1", (2, 1))
    one_bit.putpixel((1, 0), 1)
    assert np.asarray(decode(saved(one_bit, "PNG"), max_pixels=LIMIT))[0].tolist() == [
        [0, 0, 0],
        [255, 255, 255],
    ]
    grey = PIL.Image.new("L", (1, 1), 77)
    assert decode(saved(grey, "PNG"), max_pixels=LIMIT).getpixel((0, 0)) == (77, 77, 77)


def test_cmyk_becomes_rgb() -> None:
    picture = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red, green, blue = decode(saved(picture, "JPEG", quality=95), max_pixels=LIMIT).getpixel((8, 8))
    assert red > 245
    assert max(green, blue) < 10


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=8))
def test_16_bit_grey_keeps_its_high_byte(values: list[int]) -> None:
    picture = PIL.Image.fromarray(np.array([values], np.uint16))
    pixels = np.asarray(decode(saved(picture, "PNG"), max_pixels=LIMIT))
    assert pixels[0, :, 0].tolist() == [value >> 8 for value in values]
    assert (pixels == pixels[..., :1]).all()


def png(header: bytes, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG built by hand, for kinds that Pillow reads but does not write."""
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def test_16_bit_color_keeps_its_high_byte() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    rows = b"\0" + struct.pack(">6H", 0x1234, 0xFFFF, 0, 0x80FF, 0x00FF, 0x0100)
    pixels = np.asarray(decode(png(header, rows), max_pixels=LIMIT))
    assert pixels[0].tolist() == [[0x12, 0xFF, 0], [0x80, 0, 1]]


def test_16_bit_grey_with_a_transparent_value_shows_white_there() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0)
    data = png(header, b"\0" + struct.pack(">2H", 0x1234, 0x4321), (b"tRNS", b"\x43\x21"))
    pixels = np.asarray(decode(data, max_pixels=LIMIT))
    assert pixels[0].tolist() == [[0x12] * 3, [255] * 3]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    first, second = (PIL.Image.new("RGB", (20, 10), color) for color in ("#ff0000", "#0000ff"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(first, kind, save_all=True, append_images=[second], duration=50, **options)
    picture = decode(data, max_pixels=LIMIT)
    assert picture.size == (20, 10)
    assert picture.getpixel((3, 3)) == (255, 0, 0)


def test_the_result_carries_no_metadata() -> None:
    data = saved(blocks(), "JPEG", exif=exif(6), icc_profile=b"profile", comment=b"hello")
    assert decode(data, max_pixels=LIMIT).info == {}


def test_the_callers_image_is_not_changed() -> None:
    picture = blocks()
    picture.info["transparency"] = (220, 30, 30)
    before, info = picture.tobytes(), dict(picture.info)
    decoded = decode(picture, max_pixels=LIMIT)
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert (picture.tobytes(), picture.info) == (before, info)


# --- what is refused


def bomb() -> bytes:
    return png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b"")


REFUSED = {
    "zero bytes": (b"", "zero bytes"),
    "text": (b"hello, I am not a picture at all", "starting with b'hello, I am not "),
    "half a png": (encode_png(blocks())[:-60], "whole picture"),
    "half a jpeg": (encode_jpeg(blocks())[:400], "whole picture"),
    "png header only": (encode_png(blocks())[:33], "found 33 bytes"),
    "png signature only": (encode_png(blocks())[:8], "picture"),
    "a decompression bomb": (bomb(), "pixels"),
    "no pixels": (png(struct.pack(">IIBBBBB", 0, 4, 8, 2, 0, 0, 0), b""), "picture"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "picture"),
    "float tiff": (saved(PIL.Image.new("F", (2, 2)), "TIFF"), "floating point"),
    "32 bit tiff": (saved(PIL.Image.new("I", (2, 2), 1 << 20), "TIFF"), "16 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files_are_named(name: str, tmp_path: Path) -> None:
    data, message = REFUSED[name]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"photo\.jpg: expected") as caught:
        decode(path, max_pixels=LIMIT)
    assert message in str(caught.value)
    with pytest.raises(ImageError, match=r"^document 7: expected"):
        decode(data, max_pixels=LIMIT, where="document 7")


def test_pixels_are_counted_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="at most 3839 pixels, found 80 x 48"):
        decode(encode_png(blocks()), max_pixels=80 * 48 - 1)


@pytest.mark.parametrize(("mode", "share"), [("I;16", 6 / 9), ("RGBA", 6 / 17), ("CMYK", 6 / 8)])
def test_pixels_that_take_more_memory_are_fewer(
    monkeypatch: pytest.MonkeyPatch, mode: str, share: float
) -> None:
    picture = PIL.Image.new(mode, (60, 100))
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.zeros((100, 60), np.uint16))
    data = saved(picture, "TIFF" if mode == "CMYK" else "PNG")
    assert decode(data, max_pixels=int(6000 / share) + 1).size == (60, 100)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=rf"at most \d+ pixels, found 60 x 100 \({mode}\)"):
        decode(data, max_pixels=int(6000 / share) - 1)


def test_a_file_that_no_picture_is_as_large_as_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(blocks()))
    os.truncate(path, MAX_FILE_BYTES + 1)  # a hole
    with pytest.raises(ImageError, match="expected at most 256 MiB"):
        decode(path, max_pixels=LIMIT)
    with pytest.raises(ImageError, match="expected at most 256 MiB"):
        read_encoded(path, where="a")


def test_a_picture_that_pillow_warns_about_is_ours_to_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encode_png(blocks())
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 80 * 48 - 1)
    assert decode(data, max_pixels=80 * 48).size == (80, 48)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 80 * 48 // 2 - 1)
    with pytest.raises(ImageError, match=r"reasonable size.*MAX_IMAGE_PIXELS"):
        decode(data, max_pixels=80 * 48)


def test_missing_files_folders_and_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png: expected a picture, found no such file"):
        decode(tmp_path / "nowhere.png", max_pixels=LIMIT)
    with pytest.raises(ImageError, match=r"IsADirectoryError"):
        decode(tmp_path, max_pixels=LIMIT)
    with pytest.raises(ImageError, match="not fetched"):
        decode("https://example.org/dog.jpg", max_pixels=LIMIT)
    with pytest.raises(ImageError, match="found no such file"):
        image_size(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_another_shape_or_type_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"expected .* found"):
        decode(array, max_pixels=LIMIT, where="image")


def test_other_types_and_empty_images_are_refused() -> None:
    with pytest.raises(ImageError, match="found int"):
        decode(7, max_pixels=LIMIT)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="found 0 x 5"):
        decode(PIL.Image.new("RGB", (0, 5)), max_pixels=LIMIT)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: decode(path, max_pixels=LIMIT),
        image_size,
        lambda path: read_encoded(path, where=str(path)),
    ],
)
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "x.png")
    for path in (tmp_path / "x.png", Path("/dev/zero")):
        with pytest.raises(ImageError, match="expected a regular file, found a pipe or a device"):
            read(path)
    with pytest.raises(ImageError, match="IsADirectoryError"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "caf\udce9.png"])
def test_a_name_that_no_file_can_have_is_no_usable_picture(name: str) -> None:
    with pytest.raises(ImageError):
        decode(name, max_pixels=LIMIT)


def test_suffixes_are_those_of_the_formats_that_are_read() -> None:
    PIL.Image.init()
    known = {
        suffix for suffix, name in PIL.Image.registered_extensions().items() if name in FORMATS
    }
    assert known >= SUFFIXES
    assert {".jfif", ".jpe", ".tif", ".avif", ".jp2"} <= SUFFIXES
    assert not UNREAD_SUFFIXES & known


def test_16_bit_grey_takes_little_more_memory_than_its_pixels() -> None:
    data = saved(PIL.Image.fromarray(np.zeros((1000, 1000), np.uint16)), "PNG")
    decode(data, max_pixels=2 * LIMIT)
    tracemalloc.start()
    decode(data, max_pixels=2 * LIMIT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # numpy's part, beside the 6 bytes a pixel that Pillow holds: measured 5.0 bytes a pixel
    assert peak < 6_000_000


# --- manners

SEEDS = [
    encode_png(gradient()),
    encode_jpeg(blocks()),
    saved(blocks(), "GIF"),
    saved(blocks(), "WEBP"),
    saved(blocks(), "TIFF", exif=exif(6)),
    saved(blocks(), "JPEG", exif=exif(8)),
    saved(blocks(), "BMP"),
]


@given(st.sampled_from(SEEDS), st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error_and_never_a_warning(
    seed: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    with contextlib.suppress(ImageError):
        picture = decode(bytes(damaged), max_pixels=LIMIT)
        assert picture.mode == "RGB"
        assert image_size(bytes(damaged)) == picture.size


def test_pillows_settings_and_the_warning_filters_stay_as_they_were(tmp_path: Path) -> None:
    settings = (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    filters = list(warnings.filters)
    for data, _ in REFUSED.values():
        with pytest.raises(ImageError):
            decode(data, max_pixels=LIMIT)
    decode(blocks(), max_pixels=LIMIT)
    assert settings == (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES)
    assert list(warnings.filters) == filters


def test_threads_that_decode_together_leave_the_warning_filters_alone() -> None:
    filters = list(warnings.filters)
    data = encode_jpeg(blocks())
    wrong: list[object] = []

    def work() -> None:
        for _ in range(40):
            if decode(data, max_pixels=LIMIT).size != (80, 48):
                wrong.append("size")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert list(warnings.filters) == filters

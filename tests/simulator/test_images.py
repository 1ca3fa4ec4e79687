"""The one reader of images: what files hold, as pixels, against arrays that are known; and what is refused."""

import io
import os
import re
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simulator.sources.images import MOST_BYTES, MOST_PIXELS, Unreadable, decode, stacked

CHANCE = np.random.default_rng(0)
ORIENTATION = 0x0112


def encoded(pixels: Any, kind: str = "PNG", *, mode: Any = None, **options: Any) -> bytes:
    picture = Image.fromarray(np.asarray(pixels))
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int) -> np.ndarray:
    return CHANCE.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_bytes_come_back_as_they_were_written(kind: str):
    grey, colour = noise(5, 7), noise(5, 7, 3)
    assert np.array_equal(decode(encoded(grey, kind), "x"), grey[..., None])
    assert np.array_equal(decode(encoded(colour, kind), "x"), colour)
    assert np.array_equal(decode(encoded(grey > 99, kind, mode="1"), "x")[..., 0], 255 * (grey > 99))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_pixels_are_upright_whatever_orientation_stored_them(kind: str):
    """As the standard defines each number: where row 0 and column 0 of what is stored are to be seen."""
    shown = noise(2, 3).repeat(8, 0).repeat(8, 1)  # each block of a JPEG is flat, so that none is blurred
    seen = {  # orientation: where the first stored row, and the first stored column, is seen
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }
    lines = {"top": shown, "bottom": shown[::-1], "left": shown.T, "right": shown.T[::-1]}
    for orientation, (row, column) in seen.items():
        stored = lines[row]  # rows in their order, from the first stored
        if column in ("right", "bottom"):
            stored = stored[:, ::-1]
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        options: dict[str, Any] = {"quality": 100} if kind == "JPEG" else {}
        found = decode(encoded(stored, kind, exif=exif, **options), "x")[..., 0]
        assert found.shape == (16, 24), orientation
        assert np.abs(found.astype(int) - shown).max() <= (1 if kind == "JPEG" else 0), orientation


def test_a_broken_exif_block_is_no_reason_to_refuse_pixels():
    whole = encoded(noise(8, 8), "JPEG")
    for block in (
        b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\x00\x04\xff\xfe\x41\x00\x00\x00\x00\x00",
        b"MM\x00\x2a\xff\xff\xff\xff",
        b"II\x2a\x00\x08\x00\x00\x00\xff\xff\x12\x01\x03\x00",
        b"garbage",
        b"",
    ):
        app = b"Exif\x00\x00" + block
        broken = whole[:2] + b"\xff\xe1" + (len(app) + 2).to_bytes(2, "big") + app + whole[2:]
        assert np.array_equal(decode(broken, "x"), decode(whole, "x"))


def test_sixteen_bits_become_their_high_byte():
    deep = CHANCE.integers(0, 65536, (6, 5)).astype(np.uint16)
    high = (deep >> 8).astype(np.uint8)[..., None]
    files = [encoded(deep), encoded(deep, "TIFF"), encoded(deep.astype(">u2"), "TIFF"), encoded(deep, "PPM")]
    for data in files:
        assert np.array_equal(decode(data, "x"), high)
    colour = CHANCE.integers(0, 65536, (6, 5, 3)).astype(np.uint16)
    assert np.array_equal(decode(png(colour, 2), "x"), (colour >> 8).astype(np.uint8))
    clear = png(deep[..., None], 0, b"tRNS", int(deep[2, 3]).to_bytes(2, "big"))
    assert decode(clear, "x")[2, 3, 0] == 255 and np.array_equal(decode(clear, "x")[0], high[0])


def png(values: np.ndarray, colour: int, *more: bytes) -> bytes:
    """A PNG of 16 bits a channel, of values [h, w, c], written here; `more` is the name and the body of a chunk."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    h, w, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour, 0, 0, 0))
    extra = chunk(*more) if more else b""
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_pixels_that_are_no_bytes_are_refused_and_not_clipped():
    for values in (CHANCE.random((4, 4), np.float32), CHANCE.integers(0, 2**31 - 1, (4, 4)).astype(np.int32)):
        with pytest.raises(Unreadable, match=r"x has pixels of the kind [FI]; write it with 8 or 16 bits a channel"):
            decode(encoded(values, "TIFF"), "x")


def test_transparency_lies_on_white():
    grey, alpha = noise(6, 5), noise(6, 5)
    alpha[0], alpha[1] = 0, 255
    expected = np.round((grey * (alpha / 255.0)) + 255 * (1 - alpha / 255.0))
    assert np.array_equal(decode(encoded(np.stack([grey, alpha], -1)), "x")[..., 0], expected)
    colour = noise(6, 5, 3)
    expected = np.round(colour * (alpha / 255.0)[..., None] + 255 * (1 - alpha / 255.0)[..., None])
    rgba = np.concatenate([colour, alpha[..., None]], -1)
    for data in (encoded(rgba), encoded(rgba, "TIFF"), encoded(rgba, "WEBP", lossless=True, exact=True)):
        assert np.array_equal(decode(data, "x"), expected)
    keyed = encoded(colour, transparency=tuple(map(int, colour[2, 2])))  # one colour that is clear
    assert np.array_equal(decode(keyed, "x")[2, 2], [255, 255, 255])
    assert np.array_equal(decode(keyed, "x")[3], colour[3])


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_is_its_colours_and_grey_where_all_are(kind: str):
    for colours, channels in ((noise(4, 3), 3), (noise(4, 1).repeat(3, 1), 1)):
        number = CHANCE.integers(0, 4, (6, 5)).astype(np.uint8)
        picture = Image.fromarray(number, "P")
        picture.putpalette(colours.tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        assert np.array_equal(decode(buffer.getvalue(), "x"), colours[number][..., :channels])
        picture.save(clear := io.BytesIO(), kind, transparency=2)
        expected = np.where((number == 2)[..., None], 255, colours[number])[..., :channels]
        assert np.array_equal(decode(clear.getvalue(), "x"), expected)


def test_cmyk_is_made_rgb():
    cmyk = noise(1, 1, 4).repeat(8, 0).repeat(8, 1)
    buffer = io.BytesIO()
    Image.fromarray(cmyk, "CMYK").save(buffer, "TIFF")
    c, k = cmyk[..., :3] / 255.0, cmyk[..., 3:] / 255.0
    assert np.abs(decode(buffer.getvalue(), "x") - 255 * (1 - c) * (1 - k)).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_read(kind: str):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200, 90)]
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
    assert (decode(buffer.getvalue(), "x") == 10).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_is_whole_where_all_pixels_are_there(progressive: bool):
    for pixels in (noise(40, 56, 3), noise(64, 64), np.full((64, 64), 200, np.uint8)):
        for optimize in (False, True):
            data = encoded(pixels, "JPEG", quality=90, progressive=progressive, optimize=optimize)
            for cut in (1, 2):
                assert np.array_equal(decode(data[:-cut], "x"), decode(data, "x"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
def test_a_jpeg_cut_in_the_middle_is_refused_with_a_thumbnail_inside_or_without(options: dict[str, Any]):
    thumb = b"Exif\0\0" + encoded(noise(8, 8), "JPEG")
    # The lower half of the second is black: zeros in place of what is missing would be a wrong picture.
    half = np.concatenate([noise(32, 64), np.zeros((32, 64), np.uint8)])
    for pixels in (noise(64, 64, 3), half):
        data = encoded(pixels, "JPEG", **options)
        body = data[:2] + b"\xff\xe1" + (len(thumb) + 2).to_bytes(2, "big") + thumb + data[2:]
        for whole in (data, body):
            for share in (0.4, 0.5, 0.6, 0.7):
                with pytest.raises(
                    Unreadable, match=r"^a/b\.jpg is no whole image \(.+\); mend it, or leave it out\.$"
                ):
                    decode(whole[: int(len(whole) * share)], "a/b.jpg")


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_what_is_cut_in_the_middle_is_refused(kind: str):
    data = encoded(noise(40, 40, 3), kind)
    assert decode(data, "x").shape == (40, 40, 3)
    for share in (0, 0.02, 0.1, 0.5, 0.9):
        with pytest.raises(Unreadable, match=r"^x is "):
            decode(data[: int(len(data) * share)], "x")


def test_a_damaged_png_is_refused():
    data = bytearray(encoded(noise(16, 16)))
    place = data.find(b"IDAT") + 40
    data[place] ^= 4
    with pytest.raises(Unreadable, match="is no whole image"):
        decode(bytes(data), "x")


@pytest.mark.parametrize("data", [b"", b"nothing", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 1000])
def test_what_is_no_image_is_refused_in_one_sentence(data: bytes):
    with pytest.raises(Unreadable) as caught:
        decode(data, "row 3 of 'train'")
    assert re.fullmatch(
        r"row 3 of 'train' is (empty|no whole image \(.+\)); mend it, or leave it out\.", str(caught.value)
    )
    assert "BytesIO" not in str(caught.value)


def test_a_program_that_draws_is_never_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *a, **k: pytest.fail("a program was started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(Unreadable, match="is no whole image"):
        decode(eps, "x")


@pytest.mark.parametrize("side", [8200, 13_000, 30_000, 2**31 - 1])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP"])
def test_an_image_beyond_all_bounds_is_refused_by_its_header(kind: str, side: int):
    wide = min(side, 65_535) if kind == "GIF" else side
    head = {
        "PNG": bytearray(encoded(noise(4, 4))),
        "GIF": bytearray(encoded(noise(4, 4), "GIF")),
        "BMP": bytearray(encoded(noise(4, 4), "BMP")),
    }[kind]
    place, form = {"PNG": (16, ">II"), "GIF": (6, "<HH"), "BMP": (18, "<ii")}[kind]
    struct.pack_into(form, head, place, wide, wide)
    if kind == "PNG":
        struct.pack_into(">I", head, 29, zlib.crc32(bytes(head[12:29])))
    began = time.process_time()
    with pytest.raises(Unreadable, match=f"^x (is|has more than) .*{MOST_PIXELS:,}"):
        decode(bytes(head), "x")
    assert time.process_time() - began < 0.5


def test_what_is_no_file_of_bounded_size_is_refused(tmp_path: Path):
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # it has holes: no disk is used
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file.png").write_bytes(encoded(np.zeros((2, 2), np.uint8)))
    wrong = {
        "large.png": "has 536,870,913 bytes, and images of up to 536,870,912 are read",
        "pipe.png": "is no regular file",
        "nothing.png": "is not there",
        "a\0b.png": "has a name that no file can have",
        ".": "is no regular file",
    }
    for name, why in wrong.items():
        with pytest.raises(Unreadable) as caught:
            decode(f"{tmp_path}/{name}", "here")
        assert caught.value.why == why
    with pytest.raises(Unreadable, match="is no regular file"):
        decode("/dev/zero", "here")
    assert decode(tmp_path / "file.png", "here").shape == (2, 2, 1)


def test_size_and_channels_can_be_asked_for():
    grey, colour = noise(6, 6), noise(9, 9, 3)
    assert decode(encoded(grey), "x", side=3).shape == (3, 3, 1)
    assert np.array_equal(decode(encoded(grey), "x", channels=3), grey[..., None].repeat(3, -1))
    luma = np.round(colour @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(decode(encoded(colour), "x", channels=1)[..., 0] - luma).max() <= 1


def test_a_stack_is_in_colour_if_any_image_is():
    grey, colour = noise(3, 3, 1), noise(3, 3, 3)
    assert stacked([grey, grey]).shape == (2, 3, 3, 1)
    for images in ([grey, colour], [colour, grey]):
        whole = stacked(images)
        assert whole.shape == (2, 3, 3, 3) and all((whole[i] == x).all() for i, x in enumerate(images))

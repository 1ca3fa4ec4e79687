"""The one reader of images: whatever a file holds becomes bytes [h, w, 1 or 3], upright, in one way everywhere."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.types import GenlossError

MOST_PIXELS = 2**26  # of an image, 8192 x 8192; a decoder holds up to 4 bytes of each
MOST_BYTES = 2**29  # of an encoded image: 8 bytes of each pixel

# Decoders that read pixels and do nothing else: Pillow's of EPS, say, starts another program.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_PALETTE = ("P", "PA")
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag
_END = b"\xff\xd9"  # of a JPEG
_NOISE = hashlib.shake_128(b"").digest(4096).replace(b"\xff", b"")


class Unreadable(GenlossError):
    """Why an image, or its label, cannot be used."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where} {why}; mend it, or leave it out.")
        self.where, self.why = where, why


def decode(
    data: bytes | str | os.PathLike[str], where: str, side: int | None = None, channels: int | None = None
) -> np.ndarray:
    """The pixels of an encoded image, or of the file at a path, uint8 [h, w, c]; c is 1 for grey and 3 for colour.

    Pixels are turned upright as EXIF says, and what EXIF cannot say is passed over.  16 bits become their high byte.
    Transparency lies on white.  CMYK becomes RGB without colour profiles.  Of several frames or pages the first is
    read.  A palette is grey where all pixels are.  `side` resizes to side x side pixels, and `channels` makes grey
    or colour of either.

    Raises `Unreadable`, which names `where`, for what is no image, has missing pixels or pixels that are not 8 or 16
    bits deep, and, by its header alone, for more than `MOST_PIXELS` pixels.
    """
    data = data if isinstance(data, bytes) else read(data, where)
    with _told(data, where):
        pixels = _pixels(_loaded(data, where), where)  # [h, w] or [h, w, 3]
    if channels is not None or side is not None:
        pixels = _made(pixels, side, channels)
    return np.ascontiguousarray(pixels.reshape(*pixels.shape[:2], -1))


def look(data: bytes, where: str, checked: bool = False) -> tuple[str, int, int]:
    """What the header of an encoded image says: its mode, as Pillow names it, and width and height, upright.

    Where it is to be `checked`, it is decoded, and a PNG file is held against its checksums.  Raises `Unreadable`.
    """
    with _told(data, where):
        picture = _opened(data, where)
        mode, (width, height) = picture.mode, picture.size
        if checked:
            height, width = _pixels(_loaded(data, where), where).shape[:2]
            if picture.format == "PNG":
                picture.verify()
        elif picture.format != "TIFF" and _orientation(picture) in (5, 6, 7, 8):
            width, height = height, width
        return mode, width, height


@contextlib.contextmanager
def _told(data: bytes, where: str) -> Iterator[None]:
    """Whatever a damaged file makes of a decoder is `Unreadable`, and warnings of what decodes all the same are not."""
    if not data:
        raise Unreadable(where, "is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Unreadable:
        raise
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) and "BytesIO" not in str(error) else "nothing can decode it"
        raise Unreadable(where, f"is no whole image ({said})") from None


def read(path: str | os.PathLike[str], where: str) -> bytes:
    """What a file holds; raises `Unreadable` where it is none, cannot be read or is larger than `MOST_BYTES`."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(where, "is no regular file")
        if status.st_size > MOST_BYTES:
            raise Unreadable(where, f"has {status.st_size:,} bytes, and images of up to {MOST_BYTES:,} are read")
        return Path(path).read_bytes()
    except Unreadable:
        raise
    except FileNotFoundError:
        raise Unreadable(where, "is not there") from None
    except OSError as error:
        raise Unreadable(where, f"cannot be read ({error.strerror})") from None
    except ValueError:  # a NUL in its name
        raise Unreadable(where, "has a name that no file can have") from None


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one size as uint8 [n, h, w, c]: in colour if any is."""
    colour = max(image.shape[-1] for image in images)
    whole = np.empty((len(images), *images[0].shape[:2], colour), np.uint8)  # [n, h, w, c]
    for i, image in enumerate(images):
        whole[i] = image  # grey is the same in each channel
    return whole


def _opened(data: bytes, where: str) -> Any:
    """The first frame as a `PIL.Image` of which no more than the header is read."""
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise Unreadable(where, f"has more than {MOST_PIXELS:,} pixels, the most that are read") from None
    if picture.width * picture.height > MOST_PIXELS:
        size = f"{picture.width:,} x {picture.height:,}"
        raise Unreadable(where, f"is {size} pixels, and images of up to {MOST_PIXELS:,} in all are read")
    return picture


def _loaded(data: bytes, where: str) -> Any:
    """The first frame as a loaded `PIL.Image`."""
    from PIL import Image

    picture = _opened(data, where)
    try:
        picture.load()
    except OSError:
        if picture.format != "JPEG":
            raise
        # Its end is missing.  The pixels are all there where it does not matter what follows.
        start = data.rstrip(b"\xff")
        ends = [Image.open(io.BytesIO(start + tail + _END), formats=("JPEG",)) for tail in (b"", _NOISE)]
        if ends[0].tobytes() != ends[1].tobytes():
            raise
        return ends[0]
    return picture


def _pixels(picture: Any, where: str) -> np.ndarray:
    """The pixels of a loaded picture, upright, uint8 [h, w] or [h, w, 3]."""
    mode = picture.mode
    if mode in _DEEP or (mode == "I" and picture.format == "PPM"):  # whose 16 bits Pillow holds in 32
        deep = np.asarray(picture)
        clear = picture.info.get("transparency")
        pixels = (np.where(deep == clear, 0xFFFF, deep) >> 8).astype(np.uint8)
    elif mode in (*_GREY, *_COLOUR, *_PALETTE):
        kind = "L" if mode in _GREY else "RGB"
        if picture.has_transparency_data:
            pixels = _on_white(np.asarray(picture.convert("RGBA" if kind == "RGB" else "LA")))
        else:
            pixels = np.asarray(picture.convert(kind))
        if mode in _PALETTE and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
    else:
        raise Unreadable(where, f"has pixels of the kind {mode}; write it with 8 or 16 bits a channel")
    return _upright(pixels, picture)


def _on_white(pixels: np.ndarray) -> np.ndarray:
    """Pixels with transparency, uint8 [h, w, c + 1], on white: [h, w] or [h, w, 3]."""
    colour, alpha = pixels[..., :-1].astype(np.uint16), pixels[..., -1:].astype(np.uint16)
    mixed = (colour * alpha + 255 * (255 - alpha) + 127) // 255  # [h, w, c], of 16 bits at most
    return mixed.astype(np.uint8).squeeze(-1) if mixed.shape[-1] == 1 else mixed.astype(np.uint8)


def _upright(pixels: np.ndarray, picture: Any) -> np.ndarray:
    """The pixels as they are to be seen; Pillow turns TIFF files itself."""
    orientation = _orientation(picture)
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


def _orientation(picture: Any) -> Any:
    try:
        return picture.getexif().get(_ORIENTATION)
    except Exception:  # whatever a damaged block makes of its reader: pixels are whole
        return None


def _made(pixels: np.ndarray, side: int | None, channels: int | None) -> np.ndarray:
    """Pixels in another size, or in grey or colour."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    if channels is not None:
        picture = picture.convert("L" if channels == 1 else "RGB")
    if side is not None:
        picture = picture.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def sheet(images: np.ndarray, axes: int, columns: int = 24, zoom_to: int = 32) -> bytes:
    """A PNG of images uint8 [(settings,) (replicates,) n, h, w, c]: a line for each setting, or replicate, or chain.

    Of a sweep the first replicate is shown.  Small images are enlarged to about `zoom_to` pixels.
    """
    lines = images[:, 0] if axes == 2 else images if axes == 1 else images[None]  # [lines, n, h, w, c]
    lines = lines[:, :columns]
    count, n, h, _, c = lines.shape
    zoom = max(1, round(zoom_to / h))
    framed = np.pad(lines.repeat(zoom, 2).repeat(zoom, 3), [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = framed.shape[2:4]
    grid = framed.transpose(0, 2, 1, 3, 4).reshape(count * height, n * width, c)
    return png(grid)


def png(image: np.ndarray) -> bytes:
    """A PNG of an image uint8 [h, w, c], grey (c = 1) or in colour (c = 3)."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(sink, "PNG")
    return sink.getvalue()

"""Reading pictures: every depth and layout without loss, raw files, limits, and damage."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import boresight.frames.pictures as pictures
import boresight.frames.pillow as pillow
from boresight import FileFormatError, extract_centroids, read_frame
from boresight.frames.pixels import LUMINANCE
from boresight.frames.raw import binned

DEEP = np.random.default_rng(1).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
GREY = DEEP[..., 0]


def luminance(colours):
    return colours[..., :3].astype(np.float64) @ LUMINANCE


def png(pixels):
    """A PNG of 16 bits, written by its specification."""
    height, width, samples = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples]

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def lzw(data):
    """TIFF's LZW without compression: codes of 9 bits, the table cleared before it grows."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def packbits(data):
    parts = (data[start : start + 100] for start in range(0, len(data), 100))
    return b"".join(bytes([len(part) - 1]) + part for part in parts) + b"\xff\x07\x80"


PACK = {1: bytes, 5: lzw, 8: zlib.compress, 32773: packbits}


def tiff(*images, order="<", big=False):
    """A TIFF of images, each (pixels, tags): sub-directories follow in the tag 330."""
    offset, count, entry = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    head = b"II" if order == "<" else b"MM"
    head += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8)))
    body = bytearray(head)

    def directory(pixels, tags, following):
        strips, tags = segments(pixels, dict(tags), order)
        places = []
        at = len(body)
        size = struct.calcsize(order + count) + len(tags) * (20 if big else 12)
        size += struct.calcsize(order + offset)
        data = bytearray()

        def keep(what):
            data.extend(what)
            return at + size + len(data) - len(what)

        places = [keep(strip) for strip in strips]
        names = (324, 325) if 322 in tags else (273, 279)
        tags[names[0]], tags[names[1]] = places, [len(strip) for strip in strips]
        size_now = len(tags)
        entries = b""
        for tag in sorted(tags):
            values = tags[tag] if isinstance(tags[tag], list) else [tags[tag]]
            kind, letter = (16, "Q") if big else (4, "I")
            if tag in (33422, 50706):  # single bytes, as readers of DNG insist on
                kind, letter = 1, "B"
            packed = struct.pack(f"{order}{len(values)}{letter}", *values)
            packed = packed.ljust(8 if big else 4, b"\0")
            if len(packed) > (8 if big else 4):
                packed = struct.pack(order + offset, keep(packed))
            entries += struct.pack(order + entry, tag, kind, len(values)) + packed
        assert size_now == len(tags)
        link = struct.pack(order + offset, at + size + len(data) if following else 0)
        body.extend(struct.pack(order + count, len(tags)) + entries + link + data)

    for index, (pixels, tags) in enumerate(images):
        # Room for the tags of the strips, which are added later.
        names = (324, 325) if 322 in tags else (273, 279)
        directory(pixels, {**tags, **dict.fromkeys(names, 0)}, index + 1 < len(images))
    return bytes(body)


def segments(pixels, tags, order):
    """Strips or tiles of an image, packed, and its tags."""
    height, width, samples = pixels.shape
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    defaults = {256: width, 257: height, 258: [8 * pixels.itemsize] * samples, 259: 1, 277: samples,
                262: 2 if samples >= 3 else 1, 278: 16, 339: [kind] * samples}  # fmt: skip
    tags = defaults | tags
    planes = np.split(pixels, samples, 2) if tags.get(284) == 2 else [pixels]
    rows, columns = tags.get(323, tags[278]), tags.get(322, width)
    parts = []
    for plane in planes:
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                part = plane[top : top + rows, left : left + columns]
                if 322 in tags:
                    short = rows - part.shape[0], columns - part.shape[1]
                    part = np.pad(part, ((0, short[0]), (0, short[1]), (0, 0)))
                if tags.get(317) == 2:
                    part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
                part = part.astype(part.dtype.newbyteorder(order))
                parts.append(PACK[tags[259]](part.tobytes()))
    return parts, tags


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png_of_16_bits_keeps_them(tmp_path, samples):
    pixels = np.dstack([DEEP, GREY])[..., -samples:] if samples < 3 else DEEP
    pixels = np.dstack([DEEP, GREY]) if samples == 4 else pixels
    (tmp_path / "a.png").write_bytes(png(pixels))
    image = read_frame(tmp_path / "a.png").image
    if samples < 3:
        np.testing.assert_array_equal(image, pixels[..., 0])
        assert image.dtype == np.uint16
    else:
        np.testing.assert_allclose(image, luminance(pixels), rtol=1e-5)
    np.testing.assert_array_equal(read_frame(io.BytesIO(png(pixels))).image, image)


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packing", [1, 5, 8, 32773])
@pytest.mark.parametrize("layout", ["grey", "colour", "planar", "tiles", "differences", "big"])
def test_tiff_without_loss(tmp_path, dtype, order, packing, layout):
    tags = {
        "planar": {284: 2},
        "tiles": {322: 32, 323: 16},
        "differences": {317: 2},
    }.get(layout, {})
    pixels = (DEEP if layout != "grey" else GREY[..., None]).astype(dtype)
    if pixels.dtype.kind == "f" and layout == "differences":
        pytest.skip("floats have a predictor of their own")
    content = tiff((pixels, {259: packing, **tags}), order=order, big=layout == "big")
    (tmp_path / "a.tif").write_bytes(content)
    image = read_frame(tmp_path / "a.tif").image
    assert image.dtype.isnative
    if layout == "grey":
        assert image.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(image, pixels[..., 0])
    else:
        np.testing.assert_allclose(image, luminance(pixels), rtol=1e-5, atol=1e-2)


def test_tiff_of_floats_with_their_predictor(tmp_path):
    pixels = DEEP.astype(np.float32) / 7
    # By significance of the bytes, then differences, as in Adobe's Technical Note 3.
    by_byte = np.ascontiguousarray(pixels.astype(">f4")).view(np.uint8).reshape(40, 150, 4)
    lines = by_byte.transpose(0, 2, 1).reshape(40, 200, 3)
    steps = np.concatenate([lines[:, :1], np.diff(lines, axis=1)], axis=1)
    whole = steps.reshape(40, 50, 12).view(np.float32)
    (tmp_path / "a.tif").write_bytes(tiff((whole, {317: 3, 259: 8})))
    np.testing.assert_allclose(read_frame(tmp_path / "a.tif").image, luminance(pixels), rtol=1e-5)


def test_white_is_zero_is_turned(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff((GREY[..., None], {262: 0})))
    np.testing.assert_array_equal(read_frame(tmp_path / "a.tif").image, 65535 - GREY)


def test_kinds_of_tiff_that_pillow_reads(tmp_path):
    eight = Image.fromarray((DEEP >> 8).astype(np.uint8))
    for name, picture in {
        "jpeg": eight,
        "palette": eight.convert("P"),
        "bits": eight.convert("1"),
    }.items():
        picture.save(tmp_path / "a.tif", compression="jpeg" if name == "jpeg" else None)
        assert read_frame(tmp_path / "a.tif").image_shape == (40, 50)


@pytest.mark.parametrize(
    ("mode", "tags"), [("L", {}), ("RGB", {278: 16}), ("YCbCr", {}), ("YCbCr", {530: (2, 1)})]
)
def test_jpeg_in_tiff_is_as_pillow_has_it(tmp_path, mode, tags):
    stored = Image.fromarray((DEEP >> 8).astype(np.uint8)).convert(mode)
    stored.save(tmp_path / "a.tif", compression="jpeg", tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as read:
        pixels = np.asarray(read if mode == "L" else read.convert("RGB"))
    expected = pixels if mode == "L" else luminance(pixels)
    np.testing.assert_allclose(read_frame(tmp_path / "a.tif").image, expected, rtol=1e-6)
    damaged = (tmp_path / "a.tif").read_bytes().replace(b"\xff\xc0", b"\xff\xc3")
    with pytest.raises(FileFormatError, match="not a sound image file"):
        read_frame(io.BytesIO(damaged))


def test_colours_that_nobody_reads_without_loss_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff((DEEP, {262: 6})))  # YCbCr of 16 bits
    with pytest.raises(FileFormatError, match=r"a\.tif is a TIFF that cannot be read without loss"):
        read_frame(tmp_path / "a.tif")
    five = np.dstack([DEEP, DEEP[..., :2]])
    (tmp_path / "a.tif").write_bytes(tiff((five, {262: 1})))
    with pytest.raises(FileFormatError, match="5 samples a pixel"):
        read_frame(tmp_path / "a.tif")


def test_the_largest_image_and_no_thumbnail_is_taken(tmp_path):
    small = (DEEP[::4, ::4] >> 8).astype(np.uint8)
    (tmp_path / "a.tif").write_bytes(tiff((small, {254: 1}), (GREY[..., None], {})))
    np.testing.assert_array_equal(read_frame(tmp_path / "a.tif").image, GREY)
    (tmp_path / "b.tif").write_bytes(tiff((GREY[..., None], {}), (GREY[..., None] // 2, {})))
    frame = read_frame(tmp_path / "b.tif")
    np.testing.assert_array_equal(frame.image, GREY)
    assert frame.notes == ("the first of 2 images of one size in the file was taken",)
    (tmp_path / "c.nef").write_bytes(tiff((small, {254: 1, 330: 10**6})))
    with pytest.raises(FileFormatError, match="contains only a thumbnail"):
        read_frame(tmp_path / "c.nef")


DNG = {262: 32803, 50706: [1, 4, 0, 0], 33421: [2, 2], 33422: [0, 1, 1, 2]}


@pytest.mark.parametrize(
    "content",
    [
        tiff((GREY[..., None], DNG)),
        tiff(((DEEP[::4, ::4] >> 8).astype(np.uint8), {254: 1}), (GREY[..., None], {262: 32803})),
        b"FUJIFILMCCD-RAW 0201" + bytes(100),
        b"\0\0\0\x18ftypcrx \0\0\0\1" + bytes(100),
        b"IIRO\x08\0\0\0" + bytes(100),
        b"IIU\0\x08\0\0\0" + bytes(100),
    ],
    ids=["dng", "nef", "raf", "cr3", "orf", "rw2"],
)
def test_raw_files_name_what_they_need(tmp_path, monkeypatch, content):
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / "a.raw").write_bytes(content)
    with pytest.raises(
        FileFormatError, match=r"a camera's raw file, .*pip install 'boresight\[raw\]'"
    ):
        read_frame(tmp_path / "a.raw")


def test_a_raw_file_is_binned_over_its_colours(tmp_path):
    pytest.importorskip("rawpy")
    mosaic = (GREY // 8).astype(np.uint16)
    cfa = {**DNG, 258: 16, 274: 1, 50717: 8191, 254: 0}
    (tmp_path / "a.dng").write_bytes(tiff((mosaic[..., None], cfa)))
    image = read_frame(tmp_path / "a.dng").image
    np.testing.assert_allclose(image, binned(mosaic, 2)[: len(image), : image.shape[1]])


def test_bins_are_means_of_squares():
    mosaic = np.arange(7 * 9, dtype=np.uint16).reshape(7, 9)
    np.testing.assert_array_equal(
        binned(mosaic, 2), mosaic[:6, :8].reshape(3, 2, 4, 2).mean((1, 3))
    )
    np.testing.assert_array_equal(binned(mosaic, 1), mosaic)


def test_orientation_is_noted_and_pixels_stay(tmp_path):
    picture = Image.fromarray((DEEP >> 8).astype(np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    frame = read_frame(tmp_path / "a.png")
    np.testing.assert_allclose(frame.image, luminance(DEEP >> 8), rtol=1e-5)
    assert frame.exif["Orientation"] == 6
    assert "turned clockwise; rows and columns are as the file stores them" in frame.notes[0]


@pytest.mark.parametrize(
    ("zone", "expected"), [("+02:00", "2021-03-04T03:06:22.500"), ("", None)], ids=["zone", "none"]
)
def test_time_of_exif(tmp_path, zone, expected):
    picture = Image.fromarray((DEEP >> 8).astype(np.uint8))
    exif = picture.getexif()
    exposure = exif.get_ifd(0x8769)
    exposure[0x9003], exposure[0x829A], exposure[0x920A] = "2021:03:04 05:06:07", 31.0, 50.0
    if zone:
        exposure[0x9011] = zone
    picture.save(tmp_path / "a.jpg", exif=exif)
    frame = read_frame(tmp_path / "a.jpg")
    assert (frame.time and frame.time.isot) == expected
    assert frame.hints.focal_length_mm == 50.0
    assert any("not a known time scale" in note for note in frame.notes) == (not zone)


def test_large_pictures_are_read_and_those_beyond_memory_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "a.png").image, GREY)
    assert Image.MAX_IMAGE_PIXELS == 100
    (tmp_path / "b.png").write_bytes(png(DEEP))
    (tmp_path / "c.tif").write_bytes(tiff((DEEP, {})))
    for module in (pictures, pillow):
        monkeypatch.setattr(module, "max_pixels", lambda: 900)
    for name in ("a.png", "b.png", "c.tif"):
        with pytest.raises(FileFormatError, match="more pixels than the memory can hold"):
            read_frame(tmp_path / name)


def test_pil_images(tmp_path):
    np.testing.assert_array_equal(read_frame(Image.fromarray(GREY)).image, GREY)
    (tmp_path / "a.png").write_bytes(png(DEEP))
    with Image.open(tmp_path / "a.png") as picture:  # still on disk, with all its bits
        np.testing.assert_allclose(read_frame(picture).image, luminance(DEEP), rtol=1e-5)


FILES = [png(DEEP), tiff((DEEP, {259: 5})), tiff((DEEP, {284: 2, 259: 8, 317: 2}), big=True)]


@given(st.sampled_from(FILES), st.data())
def test_mutated_pictures_give_pixels_or_a_clear_error(content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4), label="bytes")):
        place = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 300), label="place")
        damaged[place] = data.draw(st.integers(0, 255), label="value")
    try:
        frame = read_frame(io.BytesIO(bytes(damaged)))
    except FileFormatError:
        return
    assert frame.image.ndim == 2
    assert frame.image.dtype.isnative


def test_jpeg_gives_the_luminance_that_it_stores(tmp_path):
    """Colours of JPEG come in coarse blocks, which would look like stars on a dark sky."""
    noise = np.random.default_rng(2).normal(20.0, 2.0, (400, 500, 3))
    Image.fromarray(np.rint(noise).astype(np.uint8)).save(tmp_path / "a.jpg", quality=85)
    image = read_frame(tmp_path / "a.jpg").image
    with Image.open(tmp_path / "a.jpg") as stored:
        np.testing.assert_array_equal(read_frame(stored).image, image)
        stored.draft("YCbCr", None)
        np.testing.assert_array_equal(np.asarray(stored)[..., 0], image)
    assert image.dtype == np.uint8
    assert len(extract_centroids(image).centroids) <= 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (b"x,y,flux\n1,2,3\n", r"Table\.read"),
        (b"#?RADIANCE\n".ljust(99) + bytes(99), "known format; give FITS"),
    ],
)
def test_what_is_no_picture_is_told(tmp_path, content, told):
    path = tmp_path / "stars.png"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=told):
        read_frame(path)


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("largest", [255, 4095, 65535])
def test_ppm_keeps_all_bits(tmp_path, as_text, largest):
    pixels = DEEP if largest == 65535 else DEEP % (largest + 1)
    head = f"P{3 if as_text else 6}\n# by hand\n50 40\n{largest}\n".encode()
    data = pixels.astype(">u2" if largest > 255 else "u1").tobytes()
    if as_text:
        data = b"# rows\n" + " ".join(map(str, pixels.ravel())).encode()
    (tmp_path / "a.ppm").write_bytes(head + data)
    image = read_frame(tmp_path / "a.ppm").image
    np.testing.assert_allclose(image, luminance(pixels), rtol=1e-5)
    (tmp_path / "short.ppm").write_bytes(head + data[: len(data) // 2])
    with pytest.raises(FileFormatError):
        read_frame(tmp_path / "short.ppm")


def jpeg_2000(bits):
    """A JPEG 2000 picture in colour whose header tells this depth."""
    kept = io.BytesIO()
    Image.fromarray((DEEP >> 8).astype(np.uint8)).save(kept, "JPEG2000")
    content = bytearray(kept.getvalue())
    content[content.find(b"\xff\x4f\xff\x51") + 42] = bits - 1
    return bytes(content)


def sgi(size):
    """An SGI picture in colour, with samples of this number of bytes."""
    head = struct.pack(">hBBHHHH", 474, 0, size, 3, 50, 40, 3).ljust(512, b"\0")
    planes = np.moveaxis(DEEP[::-1] >> (16 - 8 * size), 2, 0)
    return head + planes.astype(f">u{size}").tobytes()


@pytest.mark.parametrize("content", [jpeg_2000, sgi])
def test_depth_that_pillow_cuts_is_refused(tmp_path, content):
    whole, deep = (8, 16) if content is jpeg_2000 else (1, 2)
    (tmp_path / "a").write_bytes(content(whole))
    assert read_frame(tmp_path / "a").image.shape == DEEP.shape[:2]
    (tmp_path / "b").write_bytes(content(deep))
    with pytest.raises(FileFormatError, match="more than 8 bits a sample"):
        read_frame(tmp_path / "b")

"""Makes the photos of this folder from tests/photos/portrait.jpg: python3 make.py (needs Pillow 11 or later and
pillow-heif).

They are committed; this is how they came to be. Each has one thing that is odd about it, which is its name. What must
become of each stands in outcomes.csv.
"""

import io, pathlib, struct, zlib

import pillow_heif
from PIL import Image, ImageEnhance, ImageFilter

pillow_heif.register_heif_opener()

HERE = pathlib.Path(__file__).parent
OUT = HERE / "photos"
PORTRAIT = Image.open(HERE.parent / "photos" / "portrait.jpg").convert("RGB")
SMALL = PORTRAIT.resize((240, 320), Image.LANCZOS)
TINY = PORTRAIT.resize((120, 160), Image.LANCZOS)


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **({"quality": 75} | options))
    return buffer.getvalue()


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind, version, *parts):
    return box(kind, struct.pack(">I", version << 24), *parts)


def content(data, path):
    """The content of a box by its path."""
    for kind in path:
        at = 0
        while data[at + 4 : at + 8] != kind:
            at += struct.unpack(">I", data[at : at + 4])[0]
        data = data[at + 8 : at + struct.unpack(">I", data[at : at + 4])[0]]
        data = data[4:] if kind == b"meta" else data
    return data


def heic_grid(tiles, order, columns_and_rows, size, colours=b"nclx\0\1\0\15\0\6\x80"):
    """A HEIC of tiles of 64x64 pixels, named in this order."""
    files = [encoded(tile, "HEIF", quality=60) for tile in tiles]
    data = [content(file, [b"mdat"]) for file in files]
    grid, order = len(tiles) + 1, list(order)
    columns, rows = columns_and_rows
    item = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    infos = [full_box(b"infe", 2, struct.pack(">HH", n, 0), b"hvc1", b"\0") for n in range(1, grid)]
    infos.append(full_box(b"infe", 2, struct.pack(">HH", grid, 0), b"grid", b"\0"))
    properties = box(
        b"ipco",
        box(b"hvcC", content(files[0], [b"meta", b"iprp", b"ipco", b"hvcC"])),
        full_box(b"ispe", 0, struct.pack(">II", 64, 64)),
        full_box(b"ispe", 0, struct.pack(">II", *size)),
        full_box(b"pixi", 0, b"\3\10\10\10"),
        box(b"irot", b"\3"),
        box(b"colr", colours),
    )
    owners = b"".join(struct.pack(">HBBB", n, 2, 0x81, 2) for n in range(1, grid)) + struct.pack(">H", grid) + b"\4\3\4\x85\6"

    def meta(at):
        places = b""
        for number, part in enumerate(data, 1):
            places += struct.pack(">HHHHII", number, 0, 0, 1, at, len(part))
            at += len(part)
        places += struct.pack(">HHHHII", grid, 1, 0, 1, 0, len(item))
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, b"\0\0\0\0pict" + bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", grid)),
            full_box(b"iinf", 0, struct.pack(">H", grid), *infos),
            full_box(b"iref", 0, box(b"dimg", struct.pack(f">HH{len(order)}H", grid, len(order), *order))),
            box(b"iprp", properties, full_box(b"ipma", 0, struct.pack(">I", grid), owners)),
            box(b"idat", item),
            full_box(b"iloc", 1, b"\x44\0", struct.pack(">H", grid), places),
        )

    brand = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    return brand + meta(len(brand) + len(meta(0)) + 8) + box(b"mdat", *data)


def write(name, data):
    (OUT / name).write_bytes(data)


def exif(orientation, gps=False):
    tags = Image.Exif()
    tags[0x0112] = orientation
    if gps:
        tags[0x010F] = "CANARY-CAMERA"
        tags.get_ifd(0x8825)[1] = "N"
        tags.get_ifd(0x8825)[2] = (48.0, 51.0, 29.0)
    return tags.tobytes()


def lying(image, orientation):
    """As a camera would store it, so that it is upright once turned."""
    back = {
        1: None, 2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
        6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270,
    }[orientation]
    return image if back is None else image.transpose(back)


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def frame(data):
    """Where the frame header's content begins."""
    at = 2
    while data[at + 1] not in (0xC0, 0xC1, 0xC2):
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return at


def patched(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def main():
    OUT.mkdir(exist_ok=True)
    plain = jpeg(SMALL)
    sof = frame(plain)

    # JPEG as it may be.
    write("plain.jpg", plain)
    write("no-extension", plain)
    write("jpeg-named.png", plain)
    write("UPPER CASE & spaces (1).JPG", plain)
    write("progressive.jpg", jpeg(SMALL, progressive=True))
    write("grey.jpg", jpeg(SMALL.convert("L")))
    write("grey-lying.jpg", jpeg(lying(SMALL.convert("L"), 6), exif=exif(6)))
    write("sampled-444.jpg", jpeg(SMALL, subsampling=0))
    write("sampled-422.jpg", jpeg(SMALL, subsampling=1))
    write("restarts.jpg", jpeg(SMALL, restart_marker_rows=1))
    write("profile.jpg", jpeg(SMALL, icc_profile=b"\0" * 3000))
    write("gps.jpg", jpeg(SMALL, exif=exif(1, gps=True)))
    write("gps-lying.jpg", jpeg(lying(SMALL, 8), exif=exif(8, gps=True)))
    for orientation in range(2, 9):
        write(f"orientation-{orientation}.jpg", jpeg(lying(SMALL, orientation), exif=exif(orientation)))
    write("orientation-9.jpg", jpeg(SMALL, exif=exif(9)))
    write("cmyk.jpg", jpeg(SMALL.convert("CMYK")))
    write("cmyk-lying.jpg", jpeg(lying(SMALL, 6).convert("CMYK"), exif=exif(6)))
    write("trailing.jpg", plain + b"\0" * 500 + b"<script>PK\x03\x04")
    write("two-in-one.jpg", plain + jpeg(TINY))
    write("many-segments.jpg", plain[:2] + segment(0xEF, b"x") * 2000 + plain[2:])
    write("thumbnail.jpg", plain[:2] + segment(0xE1, b"Exif\0\0" + jpeg(TINY)) + plain[2:])
    write("one-pixel.jpg", jpeg(SMALL.resize((1, 2))))
    write("tiny.jpg", jpeg(TINY.resize((30, 40))))

    # Shapes.
    write("tall.jpg", jpeg(SMALL.resize((120, 2000)), quality=30))
    write("wide-portrait.jpg", jpeg(SMALL.resize((1100, 1300)), quality=30))
    write("landscape.jpg", jpeg(SMALL.resize((320, 240))))
    write("square.jpg", jpeg(SMALL.resize((240, 240))))
    write("nearly-square.jpg", jpeg(SMALL.resize((1200, 1201)), quality=20))
    write("landscape-by-exif.jpg", jpeg(SMALL, exif=exif(6)))
    write("portrait-by-exif.jpg", jpeg(SMALL.resize((320, 240)).transpose(Image.FLIP_LEFT_RIGHT), exif=exif(6)))

    # Other formats.
    alpha = SMALL.convert("RGBA")
    alpha.putalpha(SMALL.convert("L"))
    write("png.png", encoded(TINY, "PNG"))
    write("png-named.jpg", encoded(TINY, "PNG"))
    write("png-alpha.png", encoded(alpha.resize((120, 160)), "PNG"))
    write("png-palette.png", encoded(TINY.quantize(64), "PNG"))
    write("png-grey16.png", grey_of_16_bits(TINY))
    write("png-lying.png", encoded(lying(TINY, 6), "PNG", exif=exif(6)))
    write("webp.webp", encoded(SMALL, "WEBP", quality=70))
    write("webp-lossless.webp", encoded(TINY, "WEBP", lossless=True))
    write("webp-alpha.webp", encoded(alpha, "WEBP", quality=70))
    write("webp-lying.webp", encoded(lying(SMALL, 3), "WEBP", quality=70, exif=exif(3)))
    lying_webp = encoded(lying(SMALL, 3), "WEBP", quality=70, exif=exif(3))
    # What it claims to hold beside the picture has 4 GiB.
    write("webp-endless-exif.webp", patched(lying_webp, lying_webp.index(b"EXIF") + 4, b"\xff\xff\xff\xff"))
    write("bmp.bmp", encoded(TINY, "BMP"))
    write("bmp-palette.bmp", encoded(TINY.quantize(64), "BMP"))
    write("tiff.tif", encoded(TINY, "TIFF", compression="tiff_lzw"))
    write("tiff-raw.tiff", encoded(TINY, "TIFF"))
    write("tiff-lying.tif", encoded(lying(TINY, 8), "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 8}))
    write("gif.gif", encoded(TINY.quantize(32), "GIF"))
    write("heic.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    face = Image.open(HERE.parent.parent / "samples/photos/collins-01.jpg").convert("RGB")
    other = Image.open(HERE.parent.parent / "samples/photos/collins-02.jpg").convert("RGB")
    write("heic-x265.heic", encoded(face.resize((90, 120)), "HEIF", quality=60))
    write("heic-named.jpg", encoded(other.resize((90, 120)), "HEIF", quality=60))
    write("heic-444.heic", encoded(face.resize((90, 120)), "HEIF", quality=90, chroma=444))
    # As a phone writes it: tiles, and a rotation that the viewer applies.
    turned = face.resize((120, 160)).transpose(Image.ROTATE_90)
    tiles = [turned.crop((x, y, x + 64, y + 64)) for y in (0, 64) for x in (0, 64, 128)]
    write("heic-tiles-turned.heic", heic_grid(tiles, range(1, 7), (3, 2), turned.size))
    # As an iPhone writes it: the header has a profile, the video stream the matrix and the range.
    profile = heic_grid(tiles, range(1, 7), (3, 2), turned.size, colours=b"prof" + bytes(16))
    write("heic-profile.heic", profile)
    # One tile, decoded 400 times for a picture that needs four.
    write("heic-bomb.heic", heic_grid([face.resize((64, 64))], [1] * 400, (20, 20), (90, 120)))
    write("avif.jpg", encoded(TINY, "AVIF", quality=40))
    write("jpeg-xl.jxl", b"\xff\x0a" + b"\0" * 100)

    write("tiff-big.tif", encoded(lying(TINY, 6), "TIFF", compression="tiff_lzw", big_tiff=True, tiffinfo={0x0112: 6}))
    write("tiff-palette.tif", encoded(TINY.quantize(64), "TIFF", compression="tiff_lzw"))
    write("tiff-ycbcr-jpeg.tif", encoded(TINY.convert("YCbCr"), "TIFF", compression="jpeg", quality=75))
    write("tiff-tiled-planar.tif", tiled_planar())

    # Orientation where others put it.
    upside_down = encoded(lying(TINY, 3), "PNG")
    idat, iend = upside_down.index(b"IDAT") - 4, upside_down.index(b"IEND") - 4
    block = exif(3).removeprefix(b"Exif\0\0")
    profile = b"\nexif\n%8d\n" % (len(block) + 6) + (b"Exif\0\0" + block).hex().encode() + b"\n"
    for name, at, kind, content in [
        ("png-exif-prefix.png", idat, b"eXIf", b"Exif\0\0" + block),
        ("png-exif-behind-idat.png", iend, b"eXIf", block),
        ("png-raw-profile.png", iend, b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    ]:
        write(name, upside_down[:at] + png_chunk(kind, content) + upside_down[at:])
    write("webp-exif-prefix.webp", encoded(lying(SMALL, 3), "WEBP", quality=70, exif=b"Exif\0\0" + block))
    for name, kind, order in [("exif-long.jpg", 4, ">"), ("exif-slong.jpg", 9, "<")]:
        tiff = {">": b"MM\0*", "<": b"II*\0"}[order] + struct.pack(order + "IHHHIII", 8, 1, 0x0112, kind, 1, 3, 0)
        data = jpeg(lying(SMALL, 3))
        write(name, data[:2] + segment(0xE1, b"Exif\0\0" + tiff) + data[2:])

    # JPEG as libjpeg takes it.
    dqt = plain.index(b"\xff\xdb")
    write("junk-between-segments.jpg", plain[:dqt] + b"\0\1\2\xff\0junk\xff\xff" + plain[dqt:])
    write("no-end.jpg", plain[:-2])
    write("no-end-and-a-trailer.jpg", plain[:-2] + b"\0\0MotionPhoto_Data\0\0\0\x18ftypmp42")
    video = b"\0\0\0\x18ftypmp42" + b"\xff\xda\x11" * 300
    write("progressive-and-a-video.jpg", jpeg(SMALL, progressive=True) + video)
    write("odd-size.jpg", jpeg(SMALL.resize((1707, 2560)), quality=10))

    # No pictures.
    write("empty.jpg", b"")
    write("text.jpg", b"not found\n")
    write("page.jpg", b"\n<!DOCTYPE html><html><body>404</body></html>")
    write("document.pdf.jpg", b"%PDF-1.7\n" + b"\0" * 100)
    write("archive.zip.jpg", b"PK\x03\x04" + b"\0" * 100)
    write("zeros.jpg", b"\0" * 1000)
    write(".DS_Store", b"\0\0\0\1Bud1")
    write("._plain.jpg", b"\0\5\x16\7" + b"\0" * 100)

    # Damage.
    write("cut-in-scan.jpg", plain[: len(plain) // 2])
    half = plain[: (plain.index(b"\xff\xda") + len(plain)) // 2]
    write("cut-with-an-end-behind.jpg", half + b"\0\0MotionPhoto_Data\0\0\0\x18ftypmp42\xff\xd9tail")
    write("cut-and-a-second-picture.jpg", half + jpeg(TINY))
    write("cut-progressive-and-a-trailer.jpg", jpeg(SMALL, progressive=True)[:5000] + b"\0\0trailer\xff\xd9tail")
    restarts = jpeg(SMALL, restart_marker_rows=1)
    third = restarts.index(b"\xff\xd3")
    write("restart-lost.jpg", restarts[:third] + restarts[restarts.index(b"\xff\xd6") :])
    write("cut-in-header.jpg", plain[: sof + 4])
    write("only-begins.jpg", plain[:2])
    write("no-picture.jpg", b"\xff\xd8\xff\xd9")
    write("no-frame.jpg", plain[:2] + plain[plain.index(b"\xff\xda") :])
    write("segment-of-no-length.jpg", plain[:2] + b"\xff\xe0\0\0" + plain[2:])
    write("segment-past-the-end.jpg", plain[:2] + b"\xff\xe0\xff\xff" + plain[2:200])
    write("no-width.jpg", patched(plain, sof + 7, b"\0\0"))
    write("no-components.jpg", patched(plain, sof + 9, b"\0"))
    write("no-tables-lying.jpg", lying_without_tables())
    write("noise-in-scan-lying.jpg", noisy(jpeg(lying(SMALL, 6), exif=exif(6))))
    write("cut.png", encoded(TINY, "PNG")[:3000])
    write("cut.webp", encoded(SMALL, "WEBP", quality=70)[:2000])
    write("cut.tif", encoded(TINY, "TIFF")[:3000])
    write("bad-sum.png", patched(encoded(TINY, "PNG"), 2000, b"\xaa\xbb\xcc\xdd"))

    # JPEG that hardly anything decodes.
    write("twelve-bits.jpg", patched(patched(plain, sof + 1, b"\xc1"), sof + 4, b"\x0c"))
    write("lossless.jpg", patched(plain, sof + 1, b"\xc3"))
    write("arithmetic.jpg", patched(plain, sof + 1, b"\xc9"))

    # Bombs: the header alone claims them.
    write("bomb.jpg", patched(plain, sof + 5, b"\xff\xff\xff\xff"))
    write("bomb.png", png_header(65535, 65535) + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b""))
    write("bomb-within-limits.png", png_header(9000, 12000) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    progressive = jpeg(SMALL, progressive=True)
    scan = progressive[progressive.index(b"\xff\xda") :]
    scan = scan[: scan.index(b"\xff\xc4") if b"\xff\xc4" in scan else 400]
    write("thousand-scans.jpg", progressive[:-2] + scan[:14] * 1000 + b"\xff\xd9")

    # Poor quality.
    good = PORTRAIT.resize((240, 320), Image.LANCZOS)
    write("dark.jpg", jpeg(ImageEnhance.Brightness(good).enhance(0.12)))
    write("bright.jpg", jpeg(good.point(lambda value: min(255, 215 + value // 4))))
    write("blurred.jpg", jpeg(good.filter(ImageFilter.GaussianBlur(9))))
    write("nothing-on-it.jpg", jpeg(Image.new("RGB", (240, 320), (128, 120, 110))))


def grey_of_16_bits(image):
    width, height = image.size
    values = image.convert("L").tobytes()
    rows = [values[y * width : (y + 1) * width] for y in range(height)]
    # 257 times a byte is that byte twice.
    lines = b"".join(b"\0" + bytes(byte for value in row for byte in (value, value)) for row in rows)
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")


def tiled_planar():
    """Red above black, in tiles, the last of them higher than what is left of the picture, each colour for itself."""
    width, height, tile = 16, 40, 16
    tiles = [bytes([255 if colour == down == 0 else 0]) * tile * tile for colour in range(3) for down in range(3)]
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, None), (259, 3, 1, 1), (262, 3, 1, 2), (277, 3, 1, 3),
            (284, 3, 1, 2), (322, 3, 1, tile), (323, 3, 1, tile), (324, 4, len(tiles), None), (325, 4, len(tiles), None)]
    behind = 8 + 2 + 12 * len(tags) + 4
    values = {258: behind, 324: behind + 6, 325: behind + 6 + 4 * len(tiles)}
    pixels = values[325] + 4 * len(tiles)
    entries = b"".join(struct.pack("<HHII", tag, kind, count, values.get(tag, value)) for tag, kind, count, value in tags)
    places = struct.pack("<18I", *(pixels + n * tile * tile for n in range(9)), *[tile * tile] * 9)
    ifd = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<3H", 8, 8, 8) + places + b"".join(tiles)


def lying_without_tables():
    data = jpeg(lying(SMALL, 6), exif=exif(6))
    at = data.index(b"\xff\xdb")
    length = struct.unpack(">H", data[at + 2 : at + 4])[0]
    return data[:at] + data[at + 2 + length :]


def noisy(data):
    at = data.index(b"\xff\xda") + 200
    return patched(data, at, bytes((37 * i) % 251 for i in range(300)))


main()

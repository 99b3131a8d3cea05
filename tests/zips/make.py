"""Makes the archives of this folder: python3 make.py. Needs Info-ZIP's zip and 7zz; what they write is kept as it is.

Every photo is tests/archive/photos/tiny.jpg with a comment, so that all differ.
"""

import io
import os
import pathlib
import shutil
import subprocess
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent.resolve()
TINY = (HERE / "../archive/photos/tiny.jpg").read_bytes()
DATE = (2026, 11, 26, 12, 0, 0)


def photo(who):
    comment = who.encode()
    return TINY[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + TINY[2:]


# What people put into an archive, and what their machines add.
FILES = {
    "photos/0001.jpg": photo("0001"),
    "photos/0002.JPG": photo("0002"),
    "photos/张三.jpg": photo("张三"),
    "photos/no-extension": photo("no extension"),
    "photos/notes.txt": b"not a photo",
    "photos/.DS_Store": b"x",
    "photos/#recycle/0003.jpg": photo("deleted"),
    "__MACOSX/photos/._0001.jpg": b"x",
    "__MACOSX/photos/._0002.jpg": b"x",
}


def info(name, method=zipfile.ZIP_DEFLATED):
    member = zipfile.ZipInfo(name, DATE)
    member.compress_type = method
    return member


class Unseekable(io.RawIOBase):
    """A pipe: sizes and sums follow the data."""

    def __init__(self, file):
        self.file = file

    def writable(self):
        return True

    def write(self, data):
        return self.file.write(data)


class Legacy(zipfile.ZipInfo):
    """A name in GBK, as Windows in China writes it without a mark."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("gbk"), self.flag_bits & ~0x800


def python(name, write, stream=False):
    with open(HERE / name, "wb") as file, zipfile.ZipFile(Unseekable(file) if stream else file, "w") as archive:
        write(archive)


def usual(archive):
    archive.writestr(info("photos/"), b"")
    for number, (name, data) in enumerate(FILES.items()):
        archive.writestr(info(name, zipfile.ZIP_STORED if number % 2 else zipfile.ZIP_DEFLATED), data)


def zip64(archive):
    for number in range(1, 4):
        with archive.open(info(f"{number:04}.jpg"), "w", force_zip64=True) as member:
            member.write(photo(f"{number:04}"))


def methods(archive):
    for name, method in [("stored", 0), ("deflated", 8), ("bzip2", 12), ("lzma", 14)]:
        archive.writestr(info(f"{name}.jpg", method), photo(name))


def gbk(archive):
    for name in ["张三.jpg", "李四.jpg"]:
        member = Legacy(name, DATE)
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, photo(name))


def odd_names(archive):
    for name in ["photos\\0001.jpg", "/0002.jpg", "./0003.jpg", "../0004.jpg", "C:\\photos\\0005.jpg", "0006.jpg"]:
        member = info("x")
        member.filename = name
        archive.writestr(member, photo(name))
    link = info("0007.jpg", zipfile.ZIP_STORED)
    link.external_attr = 0o120777 << 16
    archive.writestr(link, b"/etc/passwd")


def twice(archive):
    for who in ["one", "other"]:
        archive.writestr(info("0001.jpg"), photo(who))
    archive.writestr(info("0002.jpg"), photo("0002"))


def tools():
    """Archives by Info-ZIP and 7-Zip, of files on a disk."""
    folder = pathlib.Path(tempfile.mkdtemp())
    for name, data in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1764158400, 1764158400))

    def run(*command, **options):
        return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, **options).stdout

    for name in ["infozip.zip", "7zip.zip", "encrypted.zip", "split.zip", "7zip-encrypted.zip"]:
        (HERE / name).unlink(missing_ok=True)
    run("zip", "-qr", HERE / "infozip.zip", "photos", "__MACOSX")
    (HERE / "infozip-stream.zip").write_bytes(run("zip", "-qr", "-", "photos", "__MACOSX"))
    run("zip", "-qj", "-P", "secret", HERE / "encrypted.zip", "photos/0001.jpg")
    run("7zz", "a", "-tzip", HERE / "7zip.zip", "photos", "__MACOSX")
    run("7zz", "a", "-tzip", "-psecret", "-mem=AES256", HERE / "7zip-encrypted.zip", "photos/0001.jpg")
    (folder / "photos/0001.jpg").write_bytes(os.urandom(66_000))
    run("zip", "-qrs", "64k", HERE / "split.zip", "photos")
    (HERE / "split.z01").unlink()
    shutil.rmtree(folder)


python("python.zip", usual)
python("python-stream.zip", zip64, stream=True)
python("methods.zip", methods)
python("gbk.zip", gbk)
python("odd-names.zip", odd_names)
python("twice.zip", twice)
tools()
plain = (HERE / "infozip.zip").read_bytes()
end = plain.rindex(b"PK\x05\x06")
comment = b"a comment"
plain = plain[: end + 20] + len(comment).to_bytes(2, "little") + comment
(HERE / "prefix-and-comment.zip").write_bytes(b"#!/bin/sh\n# unpacks itself\n" * 20 + plain)

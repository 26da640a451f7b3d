"""Where data files live, how they and the embedded ones are checked, and how a missing one is fetched."""

import gzip
import hashlib
import http.client
import lzma
import os
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

TIMEOUT = 10.0  # seconds without an answer after which a mirror is given up
_LIMIT = 200_000_000  # bytes; more than any file fetched here
_UNPACK = {".gz": gzip.decompress, ".xz": lzma.decompress}


def data_home() -> Path:
    """The folder that holds all data sets: `$ONWARD_DATA`, or `~/.cache/onward` if that is unset or empty."""
    return Path(os.environ.get("ONWARD_DATA") or Path.home() / ".cache" / "onward").expanduser()


def folder_of(name: str, folder: Path | str | None) -> Path:
    """`folder`, or `name` under `data_home()` where it is None; absolute."""
    return (data_home() / name if folder is None else Path(folder)).expanduser().absolute()


def obtain(folder: Path, name: str, md5: str, mirrors: Sequence[str]) -> bytes:
    """The content of one data file: from `folder`, or from a mirror, in which case it is kept in `folder`.

    `folder/name` is read if it exists, else `folder/name.gz`, else each mirror's `name.gz` is tried in turn. Nothing
    is returned or written whose digest is not `md5`; a file is put in place by renaming, so it is whole or absent.

    **Arguments.** `md5`: digest of the uncompressed content, in hexadecimal. `mirrors`: addresses that end in "/".
    **Raises.** `ValueError` if a local file is corrupt; `FileNotFoundError` if there is none and no mirror gave it;
    `OSError` if a fetched file cannot be kept.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return _read(path, md5)
    failures = []
    for mirror in mirrors:
        try:
            content = gzip.decompress(_download(f"{mirror}{name}.gz"))
        except (OSError, EOFError, zlib.error, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {getattr(error, 'reason', None) or error or type(error).__name__}")
            continue
        if digest(content) != md5:
            failures.append(f"{mirror}: what it sent has the wrong digest and was thrown away")
            continue
        _put(folder / name, content)
        return content
    raise FileNotFoundError(
        f"{name} is not in {folder} and could not be fetched ({'; '.join(failures) or 'no mirrors'}): put the "
        f"published file there as {name} or {name}.gz, or set ONWARD_DATA to a folder in which it is "
        f"{folder.name}/{name}"
    )


def local(folder: Path, name: str, sha256: str, origin: str) -> bytes:
    """The content of a data file that nothing fetches: `folder/name`, or else `folder/name.xz` or `folder/name.gz`.

    **Arguments.** `sha256`: digest of the uncompressed content, in hexadecimal. `origin`: where one gets the file.
    **Raises.** `ValueError` if the file is corrupt or another; `FileNotFoundError` if there is none.
    """
    for path in (folder / f"{name}{suffix}" for suffix in ("", ".xz", ".gz")):
        if path.exists():
            return _read(path, sha256, "sha256")
    raise FileNotFoundError(
        f"{name} is not in {folder}: put it there, plain or as .xz or .gz ({origin} has it), or set ONWARD_DATA to a "
        f"folder in which it is {folder.name}/{name}"
    )


def verified(data: bytes, name: str, sha256: str, script: str) -> bytes:
    """`data` itself if it is the content of the embedded file `name`; `ValueError` otherwise.

    **Arguments.** `script`: what makes the file.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{name} in the installed package is corrupt: its SHA-256 digest is {found} where {sha256} belongs; "
            f"reinstall onward, or make the file again with {script}"
        )
    return data


def digest(content: bytes) -> str:
    """MD5 in hexadecimal; it tells damage, not malice."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(url: str) -> bytes:
    """One file from a public mirror; at most `_LIMIT` bytes are read."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        return response.read(_LIMIT)


def _read(path: Path, expected: str, algorithm: str = "md5") -> bytes:
    """A local file's content, decompressed if its name says so, or one sentence about what is wrong with it."""
    data = path.read_bytes()
    if unpack := _UNPACK.get(path.suffix):
        try:
            data = unpack(data)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ValueError(
                f"{path} is corrupt ({error}): delete it, or replace it with the published file"
            ) from error
    found = digest(data) if algorithm == "md5" else hashlib.sha256(data).hexdigest()
    if found != expected:
        label = {"md5": "MD5", "sha256": "SHA-256"}[algorithm]
        raise ValueError(
            f"{path} is corrupt or another file: the {label} digest of its content is {found} where {expected} is "
            "published; delete it, or put the published file there"
        )
    return data


def _put(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, it is there whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(
            f"{path} was fetched but cannot be written ({error.strerror or error}): "
            "set ONWARD_DATA to a writable folder"
        ) from error

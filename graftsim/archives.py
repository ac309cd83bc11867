"""Archives of arrays, ``.npz``: read without pickle and with a bound on what is unpacked, written with fixed bytes."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from graftsim import documents
from graftsim.errors import GraftsimError

LIMIT = 1 << 32
MEMBERS = 10_000

_EPOCH = (1980, 1, 1, 0, 0, 0)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, NotImplementedError, KeyError)


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name; numpy.load reads them. Equal arrays give equal bytes: no time of day is stored."""

    def to(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
                with archive.open(member, "w", force_zip64=True) as place:
                    np.lib.format.write_array(
                        place, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False
                    )

    documents.write_atomically(path, to)


def read(path: Path, limit: int = LIMIT) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, whose unpacked size is at most ``limit`` bytes.

    Raises:
        GraftsimError: the file is missing, is not a whole archive, is too large, or holds anything but arrays of
            numbers and booleans.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > limit or len(members) > MEMBERS:
                raise GraftsimError(
                    f"{path} must unpack to at most {limit} bytes in {MEMBERS} arrays; it has {size} in {len(members)}"
                )
            return {_name(member, path): _array(archive, member, path) for member in members}
    except OSError as error:
        raise GraftsimError(f"cannot read {path}: {error.strerror or error}") from None
    except GraftsimError:
        raise
    except _BROKEN as error:
        raise GraftsimError(f"{path} must be a whole .npz archive; it is cut short or altered: {error}") from None


def _name(member: zipfile.ZipInfo, path: Path) -> str:
    if not member.filename.endswith(".npy"):
        raise GraftsimError(f"{path}: an archive must hold arrays only; {member.filename!r} is none")
    return member.filename.removesuffix(".npy")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """One array. The header's shape is believed only if the bytes for it are there."""
    with archive.open(member) as file:
        data = io.BytesIO(file.read(member.file_size))
    version = np.lib.format.read_magic(data)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        raise ValueError(f"{member.filename} has version {version}")
    shape, fortran, dtype = header[version](data)
    if dtype.kind not in "biuf":
        raise GraftsimError(f"{path}: {member.filename} must hold numbers or booleans; its dtype is {dtype}")
    count, rest = 1, data.getbuffer()[data.tell() :]
    for n in shape:
        count *= n
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(rest):
        raise ValueError(f"{member.filename} has {len(rest)} bytes for shape {shape}")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if fortran else "C").copy()

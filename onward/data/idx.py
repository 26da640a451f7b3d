"""The IDX format, in which MNIST and its relatives are published."""

import math

import numpy as np

# Third byte of the file -> type of the elements; the format is big-endian throughout.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(data: bytes, name: str = "IDX data") -> np.ndarray:
    """Decode the content of one IDX file.

    The file is two zero bytes, one byte for the type of the elements, one for the number of axes d, then d sizes as
    unsigned 32-bit integers, then the elements in row-major order, all big-endian.

    **Arguments.** `data`: the file's bytes, uncompressed. `name`: what error messages call it.
    **Returns.** A new array in the machine's own byte order, with the file's shape and element type.
    **Raises.** `ValueError` if the magic number is not an IDX one, or if the file is shorter or longer than its
    header says.
    **Source.** Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database", section "File formats".
    **Example.**

        >>> read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
        array([5, 0, 4], dtype=uint8)
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES or data[3] == 0:
        raise ValueError(
            f"{name}: not an IDX file, its first bytes are {data[:4].hex(' ') or 'missing'} where a magic number "
            "such as 00 00 08 03 belongs; fetch the file again, and decompress it if its name ends in .gz"
        )
    dtype, axes = np.dtype(_TYPES[data[2]]), data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(f"{name}: truncated header, {len(data)} bytes of at least {start}; fetch the file again")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        fault = "truncated" if len(data) < expected else "longer than its header says"
        raise ValueError(
            f"{name}: {fault}, {len(data)} bytes where shape {shape} needs {expected}; fetch the file again"
        )
    return np.frombuffer(data, dtype, offset=start).astype(dtype.newbyteorder("=")).reshape(shape)

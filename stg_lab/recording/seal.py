"""Checksums at the end of chunk files, bound to the store and to the name of the file.

A chunk is one frame of zstd. Behind it stands a second, skippable frame (RFC 8878, section 3.1.2), which every decoder passes
over, so that zarr, xarray and others read the chunk as ever. It holds the CRC-32C of the store's id, the name of the file and the
compressed bytes: a chunk with a flipped bit is told, and so is a whole chunk of another step, branch, array or recording. Value and
checksum are one file, put in its place by one rename, so that no kill can part them.
"""

from __future__ import annotations

import google_crc32c

#: Begins a skippable frame of four bytes.
HEAD = (0x184D2A50).to_bytes(4, "little") + (4).to_bytes(4, "little")
SIZE = len(HEAD) + 4


def checksum(data: bytes, name: str, owner: str) -> int:
    """CRC-32C of data that stands in the file `name` of the store whose id is `owner`."""
    return google_crc32c.extend(google_crc32c.value(f"{owner}/{name}\n".encode()), data)


def seal(data: bytes, name: str, owner: str) -> bytes:
    """What stands behind a chunk; arguments as for `checksum`."""
    return HEAD + checksum(data, name, owner).to_bytes(4, "little")


def unsealed(file: bytes, name: str, owner: str) -> bytes:
    """The chunk without its checksum.

    Raises:
        ValueError: it is not what was written there.
    """
    data = file[:-SIZE]
    if file[-SIZE:] != seal(data, name, owner):
        raise ValueError("its checksum is not the one of what was written there")
    return data

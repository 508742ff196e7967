"""Files of the local disk that are sent to a directory, or fetched from one, without being held in memory."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.errors import ObjectNotFoundError
from runner.storage.directory import Condition, Directory, Upload

__all__ = ["download_file", "upload_file"]

_SMALL_BYTES = 8 << 20
_PIECE_BYTES = 8 << 20
_THREADS = 4


def upload_file(directory: Directory, name: str, path: Path, *, only: Condition | None = None) -> str:
    """Makes a local file an object, which appears whole or not at all, and returns its tag.

    Args:
        directory: Where to.
        name: Of the object.
        path: The file, which must not change meanwhile.
        only: What must hold at the moment the object appears.

    Raises:
        ValueError: The file has become shorter.
        ConditionFailedError: It does not. After a lost reply, perhaps because the first attempt won.
        StorageError: The store did not take it.
    """
    size_bytes = path.stat().st_size
    if size_bytes <= _SMALL_BYTES:
        return directory.write_bytes(name, path.read_bytes(), only=only)
    with path.open("rb", buffering=0) as file, directory.upload(name, size_bytes, only=only) as upload:
        _for_each(lambda index: _put(upload, file.fileno(), index), range(upload.part_count))
        return upload.commit()


def download_file(directory: Directory, name: str, path: Path) -> None:
    """Copies an object to a local file, which is created or replaced, and is not whole after an error.

    Raises:
        ObjectNotFoundError: There is no such object.
        ConditionFailedError: It was replaced meanwhile.
        StorageError: The store did not give it.
    """
    entry = directory.stat(name)
    if entry is None:
        raise ObjectNotFoundError(f"There is no {name} in {directory.url} to copy to {path}.")

    def fetch(offset: int) -> None:
        buffer = bytearray(min(_PIECE_BYTES, entry.size_bytes - offset))
        directory.read_into(name, memoryview(buffer), offset=offset, tag=entry.tag)
        _write(file.fileno(), memoryview(buffer), offset)

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        _for_each(fetch, range(0, entry.size_bytes, _PIECE_BYTES))


def _for_each(act: Callable[[int], None], values: Iterable[int]) -> None:
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="transfer") as threads:
        futures = [threads.submit(act, value) for value in values]
        try:
            for future in futures:
                future.result()
        finally:  # the first error ends it
            threads.shutdown(cancel_futures=True)


def _put(upload: Upload, descriptor: int, index: int) -> None:
    start = index * upload.part_size_bytes
    size_bytes = min(upload.part_size_bytes, upload.size_bytes - start)
    upload.put(index, [memoryview(os.pread(descriptor, size_bytes, start))])


def _write(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written

"""Code snapshots: the user's code directory as one zip under the hash of its bytes."""

import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from runner.errors import CodeSnapshotError
from runner.jobs.entry import RESERVED
from runner.jobs.ignore import IgnoreRules, holds_a_key, is_private, is_secret

__all__ = ["MAX_SIZE_BYTES", "Contents", "Snapshot", "pack", "snapshot_name", "unpack", "unpack_copy", "unpacked"]

MAX_SIZE_BYTES = 100 * 2**20
"""Of all files before compression. More than that is data, which does not belong into a job's code."""

_LARGEST = 5
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The zip format knows no time before this one; real times would give the same code another hash.
_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


class Contents(NamedTuple):
    """What a snapshot was made of.

    Attributes:
        files: Number of its files.
        size_bytes: Of all of them, before compression.
        secrets: What was left out because its name or its content says that it is a secret; relative to the code
            directory.
    """

    files: int
    size_bytes: int
    secrets: tuple[str, ...]


class Snapshot(NamedTuple):
    """A zip, the sha256 of its bytes in hex, and what it was made of."""

    data: bytes
    sha256: str
    contents: Contents


def snapshot_name(sha256: str) -> str:
    """Where a snapshot lies in its model_dir."""
    if not _SHA256.fullmatch(sha256):
        raise CodeSnapshotError(f"{sha256!r} is not a sha256 in lower-case hex.")
    return f".runner/code/{sha256}.zip"


def pack(code_dir: Path, *, exclude: Iterable[Path] = (), max_size_bytes: int = MAX_SIZE_BYTES) -> Snapshot:
    """Zips a directory: the same files give the same bytes, whatever their times and order.

    Left out are what .gitignore and .runnerignore say, secrets, caches, the model_dirs of other jobs, and links that
    lead out of the directory.

    Args:
        code_dir: The directory.
        exclude: Paths left out besides, such as the job's own model_dir; those outside of code_dir do not matter.
        max_size_bytes: Limit on the sum of the sizes of the files.

    Raises:
        CodeSnapshotError: Too large, unreadable, or a top level hides one of our packages.
    """
    root = code_dir.resolve()
    try:
        walk = _Walk(root, [path.resolve() for path in exclude])
        files = dict(walk.files(root, IgnoreRules()))
        _check_top_level(root, files)
        size_bytes = _check_size(root, files, max_size_bytes)
        data = _zip(files)
    except (OSError, UnicodeEncodeError) as error:
        raise CodeSnapshotError(f"The code in {root} cannot be packed: {error}.") from error
    return Snapshot(data, hashlib.sha256(data).hexdigest(), Contents(len(files), size_bytes, tuple(walk.secrets)))


def unpacked(sha256: str, cache_dir: Path) -> Path | None:
    """Where `unpack` put a snapshot before; None if it has not, so that its bytes are needed."""
    snapshot_name(sha256)
    target = cache_dir / sha256
    return target if target.is_dir() else None


def unpack(data: bytes, sha256: str, cache_dir: Path) -> Path:
    """Unpacks a snapshot into `<cache_dir>/<sha256>`, or finds it there. Harmless if several do so at a time.

    Raises:
        CodeSnapshotError: The bytes are not those of the hash, or the zip would write elsewhere.
    """
    if (there := unpacked(sha256, cache_dir)) is not None:
        return there
    try:
        _unpack(data, sha256, cache_dir / sha256)
    except CodeSnapshotError:
        # Another process was faster with the same bytes; a directory with files in it cannot be replaced.
        if unpacked(sha256, cache_dir) is None:
            raise
    return cache_dir / sha256


def unpack_copy(data: bytes, sha256: str, target: Path) -> None:
    """Unpacks a snapshot into a directory of the user's, all of it or nothing.

    Args:
        data: The zip.
        sha256: Of the zip, in hex.
        target: Does not exist, or is an empty directory.

    Raises:
        CodeSnapshotError: There is something at `target`, or as `unpack`.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CodeSnapshotError(f"{target} is there already, and not an empty directory. Choose another one.")
    _unpack(data, sha256, target)


def _unpack(data: bytes, sha256: str, target: Path) -> None:
    if (actual := hashlib.sha256(data).hexdigest()) != sha256:
        raise CodeSnapshotError(f"A code snapshot is damaged: its sha256 is {actual}, not {sha256}. Submit again.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".unpack-"))
    try:
        _extract(data, temporary)
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except (OSError, zipfile.BadZipFile) as error:
        raise CodeSnapshotError(f"Code snapshot {sha256} cannot be unpacked into {target.parent}: {error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Walk:
    """Finds the files of one code directory that belong into its snapshot.

    Attributes:
        secrets: What was left out as such; complete once all files were found.
    """

    def __init__(self, root: Path, exclude: Iterable[Path]) -> None:
        self.secrets: list[str] = []
        self._root = root
        # A model_dir around the code directory says nothing about the code in it.
        self._exclude = [path for path in exclude if path != root and path.is_relative_to(root)]

    def files(self, directory: Path, rules: IgnoreRules) -> Iterator[tuple[str, Path]]:
        """Pairs of a name in the snapshot and the file that it is read from."""
        rules = rules.below(directory)
        for path in sorted(directory.iterdir()):
            is_dir = path.is_dir()
            if is_secret(path.name):
                self.secrets.append(path.relative_to(self._root).as_posix())
                continue
            if self._is_left_out(path) or rules.ignores(path, is_dir=is_dir):
                continue
            if is_dir:
                yield from self.files(path, rules)
            elif path.is_file():
                name = path.relative_to(self._root).as_posix()
                if holds_a_key(path):
                    self.secrets.append(name)
                else:
                    yield name, path

    def _is_left_out(self, path: Path) -> bool:
        if is_private(path.name):
            return True
        real = path.resolve()
        if path.is_symlink() and self._leads_astray(path, real):
            return True
        if any(real.is_relative_to(excluded) for excluded in self._exclude):
            return True
        return (path / ".runner").is_dir() or (path / "pyvenv.cfg").is_file()

    def _leads_astray(self, path: Path, real: Path) -> bool:
        """A link out of the directory, around in a circle, or to a secret under a harmless name."""
        if not real.exists() or not real.is_relative_to(self._root) or path.parent.resolve().is_relative_to(real):
            return True
        return any(is_private(part) for part in real.relative_to(self._root).parts)


def _check_top_level(root: Path, files: Mapping[str, Path]) -> None:
    tops = {name.partition("/")[0].removesuffix(".py") for name in files if name.endswith(".py")}
    if hidden := sorted(tops.intersection(RESERVED)):
        raise CodeSnapshotError(
            f"{root} has a module or package named {', '.join(hidden)}, which would hide the installed one from the "
            "tasks. Rename it, list it in .runnerignore, or pass another code_dir."
        )


def _check_size(root: Path, files: Mapping[str, Path], max_size_bytes: int) -> int:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    if (total := sum(sizes.values())) <= max_size_bytes:
        return total
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))[:_LARGEST]
    listed = ", ".join(f"{name} ({sizes[name] / 2**20:.1f} MiB)" for name in largest)
    raise CodeSnapshotError(
        f"The code in {root} has {total / 2**20:.1f} MiB, and the limit is {max_size_bytes / 2**20:.1f} MiB. "
        f"Largest files: {listed}. List data in .runnerignore, or submit from a directory that holds the code only."
    )


def _zip(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in sorted(files.items()):
            info = zipfile.ZipInfo(name, _TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = _UNIX
            mode = 0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(info, path.read_bytes())
    return buffer.getvalue()


def _extract(data: bytes, directory: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if (total := sum(info.file_size for info in members)) > MAX_SIZE_BYTES:
            raise CodeSnapshotError(f"A code snapshot would unpack to {total} bytes, more than {MAX_SIZE_BYTES}.")
        for info in members:
            path = directory / _safe_name(info)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # "x": never through or over something that is there already
                file.write(archive.read(info))
            path.chmod(0o755 if info.external_attr >> 16 & stat.S_IXUSR else 0o644)


def _safe_name(info: zipfile.ZipInfo) -> PurePosixPath:
    path, kind = PurePosixPath(info.filename), stat.S_IFMT(info.external_attr >> 16)
    if path.is_absolute() or not path.parts or ".." in path.parts or info.is_dir() or kind not in (0, stat.S_IFREG):
        raise CodeSnapshotError(f"A code snapshot holds {info.filename!r}, which is not a plain file inside of it.")
    return path

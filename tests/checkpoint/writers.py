"""What a chief does with a fence: saves of a few bytes that look like checkpoints."""

from collections.abc import Sequence

from runner.checkpoint.fence import Fence
from runner.storage.directory import Directory, Upload

__all__ = ["contents", "files_of", "save", "steps_in"]


def save(fence: Fence, step: int, *, content: bytes = b"weights", shards: int = 1) -> None:
    """Writes and publishes a checkpoint, as the writer of checkpoints does."""
    basename = f"model.ckpt-{step}"
    write_objects(fence, step, content=content, shards=shards)
    fence.publish(basename)


def write_objects(fence: Fence, step: int, *, content: bytes = b"weights", shards: int = 1) -> None:
    """All of a save but its publish."""
    basename = f"model.ckpt-{step}"

    def fill(upload: Upload) -> None:
        for index in range(upload.part_count):
            start = index * upload.part_size_bytes
            upload.put(index, [memoryview(content)[start : start + upload.part_size_bytes]])

    for shard in range(shards):
        fence.upload(f"{basename}.data-{shard:05d}-of-{shards:05d}", len(content), fill)
    fence.write(f"{basename}.meta", b"graph of " + content)
    fence.write(f"{basename}.index", b"index of " + content)


def files_of(step: int) -> list[str]:
    """The files of a checkpoint with one shard."""
    return [f"model.ckpt-{step}.{part}" for part in ("data-00000-of-00001", "index", "meta")]


def steps_in(directory: Directory) -> Sequence[int]:
    """The steps of which there is any file, sorted."""
    names = [entry.name for entry in directory.list() if entry.name.startswith("model.ckpt-")]
    return sorted({int(name.removeprefix("model.ckpt-").partition(".")[0]) for name in names})


def contents(directory: Directory) -> dict[str, bytes]:
    """Name -> content of all checkpoint files."""
    return {entry.name: directory.read_bytes(entry.name) for entry in directory.list()}

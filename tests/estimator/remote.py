"""Model_dirs that are copied to where TensorFlow cannot open them."""

from pathlib import Path

from runner.storage.urls import open_directory

__all__ = ["upload"]


def upload(local: Path, url: str) -> str:
    """Copies the checkpoints of a local model_dir to a URL."""
    directory = open_directory(url)
    for path in sorted(local.iterdir()):
        if path.name == "checkpoint" or path.name.startswith("model.ckpt-"):
            directory.write_bytes(path.name, path.read_bytes())
    return url

"""What never, or by the user's own rules not, belongs into a code snapshot."""

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pathspec import GitIgnoreSpec

__all__ = ["IgnoreRules", "is_private", "is_secret"]

_CACHES = (
    # And histories, and environments.
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.pyo", ".venv", "venv", "node_modules", ".runner", ".tox",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".ds_store",
)  # fmt: skip
_SECRETS = (
    # A model_dir is shared by more people than the home directory they come from.
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "id_rsa*", "id_dsa*", "id_ecdsa*",
    "id_ed25519*", ".netrc", "_netrc", ".aws", ".ssh", ".gnupg", ".boto", ".pgpass", ".pypirc", ".npmrc",
    ".git-credentials", ".htpasswd", "credentials*", "*credentials*.json", "secrets.*", "service-account*.json",
    "service_account*.json",
)  # fmt: skip

_FILES = (".gitignore", ".runnerignore")


def is_private(name: str) -> bool:
    """Whether a file or directory of that name is left out whatever the rules say."""
    return is_secret(name) or _matches(name, _CACHES)


def is_secret(name: str) -> bool:
    """Whether that is because of what its name says of its content."""
    return _matches(name, _SECRETS)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


class IgnoreRules:
    """The rules of .gitignore and .runnerignore that hold in one directory: its own and those of its parents.

    As in git, the last rule that matches decides, a deeper file overrides one above it, and .runnerignore comes after
    .gitignore.
    """

    def __init__(self, levels: tuple[tuple[Path, GitIgnoreSpec], ...] = ()) -> None:
        self._levels = levels

    def below(self, directory: Path) -> Self:
        """The rules that hold inside a directory, given those that hold above it."""
        lines = [line for name in _FILES for line in _lines(directory / name)]
        if not lines:
            return self
        return type(self)(((directory, GitIgnoreSpec.from_lines(lines)), *self._levels))

    def ignores(self, path: Path, *, is_dir: bool) -> bool:
        """Whether a path inside the directory is left out."""
        for directory, spec in self._levels:
            relative = path.relative_to(directory).as_posix()
            if (include := spec.check_file(f"{relative}/" if is_dir else relative).include) is not None:
                return include
        return False


def _lines(file: Path) -> Iterable[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else ()

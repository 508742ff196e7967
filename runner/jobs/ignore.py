"""What never, or by the user's own rules not, belongs into a code snapshot."""

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pathspec import GitIgnoreSpec

__all__ = ["IgnoreRules", "holds_a_key", "is_private", "is_secret"]

_CACHES = (
    # And histories, and environments.
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", "*.pyo", ".venv", "venv", "node_modules", ".runner", ".tox",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints", ".ds_store",
)  # fmt: skip
_SECRETS = (
    # A model_dir is shared by more people than the home directory they come from.
    ".env*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.ovpn",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "*_rsa", "*_ecdsa", "*_ed25519", ".ssh", ".gnupg",
    # What clouds, clusters and stores leave in a home directory, and in the downloads.
    ".aws", "*accesskey*.csv", "rootkey.csv", ".boto", ".s3cfg", ".passwd-s3fs", "rclone.conf", ".mc", ".gcloud",
    "access_tokens.db", "legacy_credentials", "client_secret*.json", "service-account*.json", "service_account*.json",
    "serviceaccount*.json", ".azure", ".oci", ".kube", "kubeconfig*", "*.kubeconfig", ".docker", ".dockercfg",
    ".vault-token", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.backup", ".terraform", ".databrickscfg",
    ".kaggle", "kaggle.json", ".wandb", ".huggingface",
    ".netrc", "_netrc", ".pgpass", ".my.cnf", ".pypirc", ".npmrc", ".git-credentials", ".htpasswd", ".credentials*",
    "credentials*", "*credentials*.json", "*credentials*.csv", "secrets.*", ".secrets*",
)  # fmt: skip
_SUSPECT = (".json", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".toml", ".txt", ".csv", ".properties", "")
_MAX_SUSPECT_BYTES = 256 * 1024
_TELLING = re.compile(
    rb"""
    -----BEGIN[ ]([A-Z]+[ ])*PRIVATE[ ]KEY-----
    | "type"\s*:\s*"(service_account|authorized_user)"
    | ^\s*(client-key-data|aws_secret_access_key)\s*[:=]\s*\S
    """,
    re.VERBOSE | re.MULTILINE,
)

_FILES = (".gitignore", ".runnerignore")


def is_private(name: str) -> bool:
    """Whether a file or directory of that name is left out whatever the rules say."""
    return is_secret(name) or _matches(name, _CACHES)


def is_secret(name: str) -> bool:
    """Whether that is because of what its name says of its content."""
    return _matches(name, _SECRETS)


def holds_a_key(file: Path) -> bool:
    """Whether a file, whatever its name, holds a private key, the key of a cloud account, or that of a cluster.

    Only small files of the kinds that such keys come in are looked into, and none of source code: an example in it is
    not a secret, and without the file the code would not run.
    """
    if file.suffix.lower() not in _SUSPECT or file.stat().st_size > _MAX_SUSPECT_BYTES:
        return False
    return _TELLING.search(file.read_bytes()) is not None


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

"""The `checkpoint` file: which checkpoints a model_dir has published, and who may publish the next.

Its text is that of TensorFlow's CheckpointState. Ours begins with comment lines, which TensorFlow reads past:

    # runner: generation 3 iris-k2x7a9qd 5f0c71d2a84b9e36
    # runner: kept ["model.ckpt-1000"]

The first says who wrote it last; see runner/checkpoint/fence.py. The second, which is seldom there, has the checkpoints
that are kept for good: as TensorFlow's Saver does, the text lists only those that retention still counts.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Self

__all__ = ["STATE_FILE", "UNPUBLISHED", "CheckpointState", "Claim", "parse_state"]

STATE_FILE = "checkpoint"

UNPUBLISHED = "model.ckpt-unpublished"
"""What a `checkpoint` names that has a claim and nothing published: TensorFlow refuses one without a name, and takes a
checkpoint that has no files for none."""

_PREFIX = "# runner: "
_OURS = re.compile(rf"^{_PREFIX}.*\n?", re.MULTILINE)
_CLAIM = re.compile(rf"^{_PREFIX}generation (\d{{1,18}}) (\S+) (\S+)$", re.MULTILINE)
_KEPT = re.compile(rf"^{_PREFIX}kept (\[.*\])$", re.MULTILINE)
_FIELD = re.compile(
    r"""^\s*(?P<name>\w+)\s*:\s*(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<number>[\w.+-]+))""",
    re.MULTILINE,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_UNESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ESCAPED = {
    **{code: f"\\{code:03o}" for code in (*range(32), 127)},
    **{ord(char): f"\\{char}" for char in "\"'\\"},
    ord("\t"): "\\t",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
}


@dataclass(frozen=True)
class Claim:
    """Who holds the fence of a model_dir.

    Attributes:
        generation: The highest one that has ever claimed the model_dir.
        owner: A job's id, or what names a process without a job; without blanks.
        nonce: Of the write that put it there: no two are the same.
    """

    generation: int
    owner: str
    nonce: str

    def __post_init__(self) -> None:
        if self.generation < 0 or any(not text or text.split() != [text] for text in (self.owner, self.nonce)):
            raise ValueError(f"{self!r}: expected a generation >= 0, an owner and a nonce without blanks.")

    def __str__(self) -> str:
        return f"generation {self.generation} of {self.owner}"


@dataclass(frozen=True)
class CheckpointState:
    """What a `checkpoint` file says. Paths are as they stand there: relative to model_dir, absolute, or URLs.

    Attributes:
        latest: The newest checkpoint; None if nothing is published.
        paths: All that retention counts, from the oldest to the newest, the newest included.
        timestamps: When each of `paths` was published, in seconds since the epoch; empty if the writer did not tell.
        last_preserved: What the n hours of the next one that is kept for good count from, likewise; None if not told.
        kept: Those that are kept for good, which are no longer in `paths`.
        claim: Who holds the fence; None if the last writer knew of none.
    """

    latest: str | None
    paths: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    last_preserved: float | None = None
    kept: tuple[str, ...] = ()
    claim: Claim | None = None

    @property
    def named(self) -> frozenset[str]:
        """All that the file names, in whatever capacity: nobody may change any of it."""
        return frozenset({*self.paths, *self.kept} | ({self.latest} if self.latest else set()))

    def claimed_by(self, claim: Claim) -> Self:
        """The same state under another claim."""
        return replace(self, claim=claim)

    def encode(self) -> bytes:
        """The content of the file."""
        lines = [f'model_checkpoint_path: "{_escape(self.latest or UNPUBLISHED)}"']
        lines += [f'all_model_checkpoint_paths: "{_escape(path)}"' for path in self.paths or (self.latest,) if path]
        lines += [f"all_model_checkpoint_timestamps: {float(timestamp)}" for timestamp in self.timestamps]
        if self.last_preserved:
            lines.append(f"last_preserved_timestamp: {float(self.last_preserved)}")
        return self._comments() + ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")

    def rewrite(self, data: bytes) -> bytes:
        """The content of a file with the comment lines of this state, and otherwise unchanged."""
        text = data.decode("utf-8", "surrogateescape")
        return self._comments() + _OURS.sub("", text).encode("utf-8", "surrogateescape")

    def _comments(self) -> bytes:
        claim, lines = self.claim, []
        if claim is not None:
            lines.append(f"{_PREFIX}generation {claim.generation} {claim.owner} {claim.nonce}")
        if self.kept:
            lines.append(f"{_PREFIX}kept {json.dumps(self.kept)}")
        return "".join(f"{line}\n" for line in lines).encode()


def parse_state(data: bytes) -> CheckpointState:
    """Reads a `checkpoint` file, whoever wrote it; one that is empty or damaged has published nothing."""
    text = data.decode("utf-8", "surrogateescape")
    fields: dict[str, list[str]] = {}
    for match in _FIELD.finditer(text):
        value = next(each for each in (match["double"], match["single"], match["number"]) if each is not None)
        fields.setdefault(match["name"], []).append(value)
    latest = _unescape(fields.get("model_checkpoint_path", [""])[0])
    paths = tuple(_unescape(path) for path in fields.get("all_model_checkpoint_paths", []))
    timestamps = tuple(_numbers(fields.get("all_model_checkpoint_timestamps", [])))
    preserved = _numbers(fields.get("last_preserved_timestamp", []))
    return CheckpointState(
        latest=None if latest in {"", UNPUBLISHED} else latest,
        paths=tuple(path for path in paths if path and path != UNPUBLISHED),
        timestamps=timestamps if len(timestamps) == len(paths) else (),
        last_preserved=preserved[0] if preserved else None,
        kept=_kept(text),
        claim=_claim(text),
    )


def _claim(text: str) -> Claim | None:
    match = _CLAIM.search(text)
    return Claim(int(match[1]), match[2], match[3]) if match else None


def _kept(text: str) -> tuple[str, ...]:
    match = _KEPT.search(text)
    try:
        names = json.loads(match[1]) if match else []
    except ValueError:  # somebody's edit
        return ()
    return tuple(name for name in names if isinstance(name, str))


def _numbers(values: list[str]) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError:
        return []


def _escape(path: str) -> str:
    return path.translate(_ESCAPED)


def _unescape(text: str) -> str:
    # Escapes stand for bytes: older writers put every byte that is not ASCII as \ooo.
    data = _ESCAPE.sub(_unescape_byte, text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def _unescape_byte(match: re.Match[bytes]) -> bytes:
    escape: bytes = match[1]
    if escape[:1] == b"x" and len(escape) > 1:
        return bytes([int(escape[1:], 16)])
    if escape.isdigit():
        return bytes([int(escape, 8) & 0xFF])
    return _UNESCAPED.get(escape, escape)

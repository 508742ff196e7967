"""`runner checkpoints`: which checkpoints a model_dir holds, whether they are sound, and copies of them."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from runner.checkpoint.bundle.reader import BundleReader
from runner.checkpoint.download import download_checkpoint
from runner.checkpoint.listing import CheckpointInfo, survey_checkpoints
from runner.cli.output import print_json, print_table, size_text, time_span
from runner.client import Client
from runner.errors import CheckpointDamagedError, CheckpointNotFoundError, ModelDirError
from runner.jobs.fields import rfc3339, utc_now
from runner.jobs.records import unpack_code
from runner.storage.directory import Directory
from runner.storage.retry import Retry
from runner.storage.urls import is_local, open_directory, resolve_model_dir, split_prefix

__all__ = ["checkpoints_command"]

_CODE_DIGITS = 12
_LATEST = "latest"


@click.command("checkpoints")
@click.argument("job_or_url")
@click.option("--verify", is_flag=True, help="Read and check every byte; exit with 1 if a checkpoint is damaged.")
@click.option(
    "--download",
    nargs=2,
    type=(str, click.Path(path_type=Path)),
    metavar="STEP DIR",
    help="Copy one to a new local directory, verified, where TensorFlow's tools read it. STEP may be 'latest'.",
)
@click.option(
    "--code",
    nargs=2,
    type=(str, click.Path(path_type=Path)),
    metavar="STEP DIR",
    help="Unpack the code that wrote one into a new local directory. STEP may be 'latest'.",
)
@click.option("--metric", default="loss", show_default=True, help="Which one of the evaluations to show.")
@click.option(
    "--timeout",
    "timeout_secs",
    type=click.FloatRange(min=0),
    default=10,
    show_default=True,
    metavar="SECS",
    help="Give up on a store that does not answer for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def checkpoints_command(
    job_or_url: str,
    *,
    verify: bool,
    download: tuple[str, Path] | None,
    code: tuple[str, Path] | None,
    metric: str,
    timeout_secs: float,
    as_json: bool,
) -> None:
    """List the checkpoints of a model_dir: that of a job, or a path or URL, which needs no Redis.

    A checkpoint is complete, damaged, or an orphan, which `checkpoint` does not name: one that is being written, or was
    never published. A model_dir whose name could be that of a job is given as ./NAME.
    """
    retry = Retry(budget_secs=timeout_secs)
    model_dir = _model_dir(job_or_url)
    infos = survey_checkpoints(model_dir, retry=retry)
    directory = open_directory(model_dir, retry=retry)
    if download is not None:
        _download(directory, _find(infos, download[0]), download[1], as_json=as_json)
    if code is not None:
        _unpack(model_dir, _find(infos, code[0]), code[1], as_json=as_json)
    if download is not None or code is not None:
        return
    damages = _damages(directory, infos) if verify else {}
    if as_json:
        print_json([_as_json(info, damages) for info in infos])
    else:
        _print(infos, damages, metric=metric, now=utc_now())
        if not infos:
            click.echo(f"There is no checkpoint in {model_dir}.", err=True)
    # What was never published may well be incomplete, and harms nobody.
    if published := [damages[info.prefix] for info in infos if info.prefix in damages and info.state != "orphan"]:
        raise CheckpointDamagedError("\n".join(published))


def _model_dir(job_or_url: str) -> str:
    if "/" not in job_or_url and job_or_url not in {".", ".."} and not Path(job_or_url).is_dir():
        with Client() as client:
            return client.get(job_or_url).status().model_dir
    url = resolve_model_dir(job_or_url)
    if is_local(url) and not os.path.isdir(url):
        raise ModelDirError(f"There is no directory {url}.")
    return url


def _damages(directory: Directory, infos: Sequence[CheckpointInfo]) -> dict[str, str]:
    """Prefix -> what is wrong, of all that are damaged; reads every byte of all of them."""
    return {info.prefix: damage for info in infos if (damage := _damage(directory, info))}


def _damage(directory: Directory, info: CheckpointInfo) -> str | None:
    try:
        BundleReader(directory, _basename(info)).verify()
    except CheckpointDamagedError as error:
        return str(error)
    except CheckpointNotFoundError as error:
        # Retention may have deleted it since it was listed.
        return str(error) if info.state == "damaged" else None
    if info.state == "damaged":
        return f"{info.prefix} is damaged: a file is missing, or not as long as when it was written."
    return None


def _basename(info: CheckpointInfo) -> str:
    return split_prefix(info.prefix)[1]


def _find(infos: Sequence[CheckpointInfo], step: str) -> CheckpointInfo:
    """The checkpoint that a user means by a step."""
    found = [info for info in infos if (info.latest if step == _LATEST else str(info.step) == step)]
    # One of an earlier attempt may have been left under another name.
    found.sort(key=lambda info: (info.state == "complete", info.latest))
    if not found:
        steps = [info.step for info in infos if info.state == "complete"]
        raise CheckpointNotFoundError(f"There is no checkpoint of step {step}; complete ones: {steps}.")
    return found[-1]


def _download(directory: Directory, info: CheckpointInfo, folder: Path, *, as_json: bool) -> None:
    prefix = download_checkpoint(directory, _basename(info), folder)
    if as_json:
        print_json({"step": info.step, "prefix": prefix})
    else:
        click.echo(prefix)


def _unpack(model_dir: str, info: CheckpointInfo, folder: Path, *, as_json: bool) -> None:
    sha256 = unpack_code(model_dir, info.step, folder)
    if as_json:
        print_json({"step": info.step, "code": sha256, "directory": str(folder)})
    else:
        click.echo(f"{folder}: the code that wrote step {info.step}, snapshot {sha256[:_CODE_DIGITS]}")


def _as_json(info: CheckpointInfo, damages: Mapping[str, str]) -> dict[str, object]:
    return {
        **asdict(info),
        "modified_at": rfc3339(info.modified_at),
        # JSON has no NaN, which is what a loss becomes that diverges.
        "metrics": {name: value if math.isfinite(value) else None for name, value in info.metrics.items()},
        "state": _state(info, damages),
        "damage": damages.get(info.prefix),
    }


def _state(info: CheckpointInfo, damages: Mapping[str, str]) -> str:
    return "damaged" if info.prefix in damages and info.state != "orphan" else info.state


def _print(infos: Sequence[CheckpointInfo], damages: Mapping[str, str], *, metric: str, now: datetime) -> None:
    print_table(
        ["STEP", "AGE", "SIZE", "SHARDS", "STATE", metric.upper(), "CODE", "PREFIX", ""],
        [
            (
                info.step,
                time_span((now - info.modified_at).total_seconds()),
                size_text(info.size_bytes),
                info.shards,
                _state(info, damages),
                f"{info.metrics[metric]:.6g}" if metric in info.metrics else "",
                (info.code or "")[:_CODE_DIGITS],
                info.prefix,
                _LATEST * info.latest,
            )
            for info in infos
        ],
    )

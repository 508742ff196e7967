"""Names of entries, and whether a task could import them, found out without running the user's code."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from runner.errors import EntryError
from runner.jobs.entry import check_entry, entry_name, source_root


def experiment(config: object) -> None:
    """Is only ever named."""


def _decorated(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> None:
        function(*args)

    return wrapper


@_decorated
def decorated(config: object) -> None:
    """Is only ever named."""


class Holder:
    def method(self) -> None:
        """Is not an entry."""


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(dedent(text))


# Names


def test_a_name_is_taken_as_it_is() -> None:
    assert entry_name("models.iris:experiment") == "models.iris:experiment"


def test_a_function_is_sent_by_name() -> None:
    assert entry_name(experiment) == f"{__name__}:experiment"
    assert entry_name(decorated) == f"{__name__}:decorated"


@pytest.mark.parametrize(
    "entry", ["", "iris", "iris.py", "iris:", ":experiment", "iris:a.b", "my-iris:f", "a/b:f", "iris:f\n"]
)
def test_what_is_no_name_of_a_function_is_refused(entry: str) -> None:
    with pytest.raises(EntryError, match="module:function"):
        entry_name(entry)


def test_a_function_that_no_other_process_could_import_is_refused() -> None:
    def nested() -> None: ...

    cases: list[tuple[Any, str]] = [
        (lambda: None, "lambda"),
        (nested, "inside another function"),
        (Holder.method, "method"),
        (Holder().method, "not a plain function"),
        (functools.partial(experiment, None), "not a plain function"),
        (Holder, "not a plain function"),
        (42, "not a plain function"),
    ]
    for entry, reason in cases:
        with pytest.raises(EntryError, match=reason):
            entry_name(entry)


def run(*arguments: str, cwd: Path, stdin: str | None = None) -> str:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, input=stdin, capture_output=True, text=True, check=True
    ).stdout


_SCRIPT = """
    from runner.jobs.entry import entry_name, source_root
    def experiment(config): ...
    if __name__ == "__main__":
        print(entry_name(experiment), source_root(experiment))
"""


def test_the_main_module_of_a_script_is_the_stem_of_its_file(tmp_path: Path) -> None:
    write(tmp_path, {"models/iris.py": _SCRIPT})

    assert run("models/iris.py", cwd=tmp_path).split() == ["iris:experiment", str(tmp_path / "models")]


def test_the_main_module_of_a_package_keeps_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"models/__init__.py": "", "models/iris.py": _SCRIPT})

    assert run("-m", "models.iris", cwd=tmp_path).split() == ["models.iris:experiment", str(tmp_path)]


_INTERACTIVE = """
from runner.errors import EntryError
from runner.jobs.entry import entry_name
exec(compile("def experiment(config): ...", {filename!r}, "exec"))
try:
    entry_name(experiment)
except EntryError as error:
    print(error)
"""


@pytest.mark.parametrize("filename", ["<stdin>", "/tmp/ipykernel_1234/567.py", "<ipython-input-1-abc>"])
def test_a_function_of_a_notebook_cell_is_to_be_written_to_a_module(tmp_path: Path, filename: str) -> None:
    message = run("-", cwd=tmp_path, stdin=_INTERACTIVE.format(filename=filename))

    assert "notebook or an interactive session" in message
    assert "top level of a module" in message


def test_a_cell_is_recognised_although_the_main_module_has_a_file(tmp_path: Path) -> None:
    write(tmp_path, {"launcher.py": _INTERACTIVE.format(filename="/tmp/ipykernel_1234/567.py")})

    assert "notebook" in run("launcher.py", cwd=tmp_path)


def test_a_script_that_cannot_be_imported_under_its_name_is_to_be_renamed(tmp_path: Path) -> None:
    write(tmp_path, {"my-iris.py": _SCRIPT})

    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("my-iris.py", cwd=tmp_path)

    assert "rename it" in caught.value.stderr


def test_an_installed_function_has_no_source_root() -> None:
    assert source_root(dedent) is None
    assert source_root(pytest.main) is None


def test_the_source_root_is_where_the_import_began() -> None:
    assert source_root(experiment) == Path(__file__).resolve().parents[1]


# Checks


def test_a_module_of_the_code_directory_needs_a_snapshot(tmp_path: Path) -> None:
    write(tmp_path, {"iris.py": "def experiment(): ...", "models/deep/wide.py": "async def experiment(): ..."})

    assert check_entry("iris:experiment", tmp_path)
    assert check_entry("models.deep.wide:experiment", tmp_path)


def test_a_module_of_the_environment_needs_none(tmp_path: Path) -> None:
    assert not check_entry("textwrap:dedent", tmp_path)
    assert not check_entry("textwrap:dedent", None)


def test_the_code_directory_counts_even_if_the_environment_has_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"iris.py": "def experiment(): ..."})
    monkeypatch.syspath_prepend(tmp_path)

    assert check_entry("iris:experiment", tmp_path)
    assert not check_entry("iris:experiment", None)


def test_nothing_of_the_user_is_run(tmp_path: Path) -> None:
    write(tmp_path, {"models/__init__.py": "raise SystemExit", "models/iris.py": "raise SystemExit\ndef f(): ..."})

    assert check_entry("models.iris:f", tmp_path)
    assert "models" not in sys.modules


@pytest.mark.parametrize("module", ["nosuch", "iris.nosuch", "models.nosuch"])
def test_an_unknown_module_says_where_it_was_looked_for(tmp_path: Path, module: str) -> None:
    write(tmp_path, {"iris.py": "", "models/__init__.py": ""})

    with pytest.raises(EntryError, match=f"no module '{module}' in {tmp_path}.* or the packages installed here"):
        check_entry(f"{module}:experiment", tmp_path)


def test_an_unknown_function_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, {"iris.py": "def wide(): ...\ndef deep(): ...\ndef _private(): ...\nsteps = 5"})

    with pytest.raises(EntryError, match=r"No function 'experiment' in .*iris.py; it has deep, wide\."):
        check_entry("iris:experiment", tmp_path)


def test_a_namespace_package_holds_no_function(tmp_path: Path) -> None:
    write(tmp_path, {"models/iris.py": ""})

    with pytest.raises(EntryError, match=r"without __init__\.py"):
        check_entry("models:experiment", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "experiment = make()",
        "from other import experiment",
        "from other import thing as experiment",
        "if True:\n    def experiment(): ...",
        "try:\n    pass\nexcept OSError:\n    experiment = None",
        "a, (b, experiment) = make()",
        "class experiment: ...",
        "from other import *",
        "def __getattr__(name): ...",
    ],
)
def test_whatever_binds_the_name_at_the_top_level_is_enough(tmp_path: Path, text: str) -> None:
    (tmp_path / "iris.py").write_text(text)

    assert check_entry("iris:experiment", tmp_path)


@pytest.mark.parametrize(
    "text", ["def f():\n    experiment = 1", "class C:\n    def experiment(self): ...", "[0 for experiment in ()]"]
)
def test_a_name_of_an_inner_scope_is_not_enough(tmp_path: Path, text: str) -> None:
    (tmp_path / "iris.py").write_text(text)

    with pytest.raises(EntryError, match="No function 'experiment'"):
        check_entry("iris:experiment", tmp_path)


def test_a_file_that_is_not_python_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "iris.py").write_text("def experiment(:\n")

    with pytest.raises(EntryError, match=r"iris\.py.*line 1"):
        check_entry("iris:experiment", tmp_path)


@pytest.mark.parametrize("top", ["workers", "tensorflow"])
def test_a_module_that_hides_one_of_ours_is_refused(tmp_path: Path, top: str) -> None:
    write(tmp_path, {f"{top}/__init__.py": "def experiment(): ..."})

    with pytest.raises(EntryError, match="rename"):
        check_entry(f"{top}:experiment", tmp_path)


def test_runner_always_means_the_installed_package(tmp_path: Path) -> None:
    write(tmp_path, {"runner/__init__.py": "", "runner/client.py": ""})

    assert not check_entry("runner.client:Client", tmp_path)

"""The name of an entry: "module:function", from a function or as given, checked without importing the module."""

import ast
import importlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from runner.errors import EntryError
from runner.jobs.spec import is_entry

__all__ = ["RESERVED", "check_entry", "entry_name", "source_root"]

RESERVED = ("runner", "tensorflow", "workers")
"""Top levels that always mean the installed packages: one of the user's under such a name would hide ours."""

_SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.comprehension
_MOVE = "Write it at the top level of a module (a .py file) and submit it from there, or as 'module:function'."


def entry_name(entry: str | Callable[..., Any]) -> str:
    """The "module:function" under which a task will import an entry.

    Args:
        entry: That name already, or a function at the top level of a module. `__main__` of a script means the stem of
            its file.

    Raises:
        EntryError: Not of that form, or a function that no other process could import.
    """
    if isinstance(entry, str):
        if not is_entry(entry):
            raise EntryError(f"entry={entry!r}: expected 'module:function', such as {_suggestion(entry)!r}.")
        if entry.partition(":")[0].endswith(".py"):
            raise EntryError(f"entry={entry!r} names a file, expected 'module:function': {_suggestion(entry)!r}.")
        return entry
    function = _top_level(entry)
    name = _module_name(function)
    if not all(part.isidentifier() for part in name.split(".")):
        raise EntryError(f"The file {name}.py cannot be imported under that name; rename it, as in iris.py.")
    return f"{name}:{function.__name__}"


def _suggestion(entry: str) -> str:
    """What was meant by a path, as in "models/train.py:experiment"."""
    path, _, function = entry.partition(":")
    name = f"{path.removesuffix('.py').removeprefix('./').replace('/', '.')}:{function or 'experiment'}"
    return name if is_entry(name) else "iris:experiment"


def source_root(function: Callable[..., Any]) -> Path | None:
    """The directory from which a function's module is imported; None if that is an installed package's."""
    module = sys.modules.get(function.__module__)
    if module is None or not getattr(module, "__file__", None):
        return None
    file = Path(str(module.__file__)).resolve()
    name = _main_name(module) if function.__module__ == "__main__" else function.__module__
    depth = name.count(".") + (file.stem == "__init__")
    root = file.parents[depth]
    return None if _is_installed(root) or name.partition(".")[0] in RESERVED else root


def check_entry(entry: str, code_dir: Path | None) -> bool:
    """Looks for the module and the function of an entry, by their files alone: nothing of the user's is run.

    Args:
        entry: "module:function".
        code_dir: Directory of the user's code, which goes first; None: only what is installed here counts.

    Returns:
        Whether the module is one of code_dir's, so that tasks need a snapshot of it.

    Raises:
        EntryError: There is no such module, or no such function in it; the message says where it looked.
    """
    module, _, function = entry_name(entry).partition(":")
    top = module.partition(".")[0]
    own = _find(module, [str(code_dir)]) if code_dir and top != "runner" else None
    if own and top in RESERVED:
        raise EntryError(
            f"entry={entry!r}: {own.origin or top} would hide the installed package {top!r}; rename the module."
        )
    spec = own or _find(module, None)
    if spec is None:
        places = [f"{code_dir} (the code directory)"] if code_dir else []
        raise EntryError(
            f"entry={entry!r}: no module {module!r} in {' or '.join([*places, 'the packages installed here'])}. "
            "Run this from the directory that holds it, or pass that as code_dir (--code-dir)."
        )
    _check_function(spec, module, function)
    return own is not None


def _top_level(entry: Callable[..., Any]) -> FunctionType:
    function = inspect.unwrap(entry) if inspect.isfunction(entry) else entry
    if not isinstance(function, FunctionType):
        raise EntryError(f"{entry!r} is not a plain function. {_MOVE}")
    name = function.__qualname__
    if "<lambda>" in name:
        raise EntryError(f"A lambda cannot be sent by name. {_MOVE}")
    if "<locals>" in name:
        raise EntryError(f"{name} is defined inside another function, where no task can import it. {_MOVE}")
    if "." in name:
        raise EntryError(f"{name} is a method, and an entry is a plain function. {_MOVE}")
    return function


def _module_name(function: FunctionType) -> str:
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    file = Path(str(getattr(main, "__file__", None))).resolve()
    # A notebook's cell and a line of the interpreter have made-up file names, also where __main__ has a real file.
    if not file.is_file() or Path(function.__code__.co_filename).resolve() != file:
        raise EntryError(f"{function.__name__} is defined in a notebook or an interactive session. {_MOVE}")
    return _main_name(main)


def _main_name(main: ModuleType) -> str:
    """`python -m` records the module's own name; a script has none but its file's."""
    spec = getattr(main, "__spec__", None)
    return spec.name if spec else Path(str(main.__file__)).stem


def _is_installed(root: Path) -> bool:
    if {"site-packages", "dist-packages"}.intersection(root.parts):
        return True
    paths = sysconfig.get_paths()
    return any(root == Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _find(module: str, path: list[str] | None) -> ModuleSpec | None:
    """Walks down a dotted name; importing the parents, as importlib.util.find_spec does, would run their code.

    Args:
        module: Dotted name.
        path: Directories for its top level; None means whatever an import here would search.
    """
    importlib.invalidate_caches()
    top, *rest = module.split(".")
    spec = PathFinder.find_spec(top, path) if path else _find_installed(top)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    return spec


def _find_installed(top: str) -> ModuleSpec | None:
    # Editable installs may come with a finder of their own, so PathFinder alone would miss them.
    specs = (finder.find_spec(top, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec), None)


def _check_function(spec: ModuleSpec, module: str, function: str) -> None:
    if spec.origin is None:  # a namespace package
        raise EntryError(f"{module} is a directory without __init__.py, so it holds no function {function!r}.")
    if not spec.origin.endswith(".py"):
        return  # compiled or built in: only an import could tell
    try:
        names = _Names(ast.parse(Path(spec.origin).read_bytes(), spec.origin).body)
    except (SyntaxError, ValueError, OSError) as error:
        raise EntryError(f"{spec.origin} cannot be read as Python: {error}.") from error
    if not names.open_ended and function not in names.all:
        found = f"it has {', '.join(names.functions)}" if names.functions else "it has no function at its top level"
        raise EntryError(f"No function {function!r} in {spec.origin}; {found}.")


class _Names:
    """The names that a module's top level binds.

    Attributes:
        all: Every name.
        functions: The public functions that it defines, sorted.
        open_ended: A star import or a module __getattr__ may add more.
    """

    def __init__(self, body: list[ast.stmt]) -> None:
        self.all: set[str] = set()
        defined: set[str] = set()
        self.open_ended = False
        for node in _top_level_nodes(body):
            bound = set(_bound(node))
            self.all |= bound
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                defined |= bound
            self.open_ended |= bool(bound & {"*", "__getattr__"})
        self.functions = sorted(name for name in defined if not name.startswith("_"))


def _top_level_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes that bind in the module's own scope: into `if` and `try`, not into functions and classes."""
    for node in body:
        yield node
        if not isinstance(node, _SCOPES):
            yield from _top_level_nodes(ast.iter_child_nodes(node))


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id

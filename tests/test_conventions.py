"""The rules of the house that no linter checks."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import errors

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for package in ("runner", "workers") for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def is_private(path: Path) -> bool:
    return path.stem.startswith("_") and path.stem != "__init__"


def has_code(path: Path) -> bool:
    return any(not isinstance(node, ast.Expr) for node in parse(path).body)


def exports(tree: ast.Module) -> list[str] | None:
    """The literal value of `__all__`; None if the module has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(each, ast.Name) and each.id == "__all__" for each in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return None


def defined_names(statements: list[ast.stmt]) -> Iterator[str]:
    """The names that statements of a module bind, those in `if` and `try` blocks too."""
    for node in statements:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (each.asname or each.name.partition(".")[0] for each in names)
            case ast.Assign(targets=targets):
                yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If(body=body, orelse=orelse):
                yield from defined_names([*body, *orelse])
            case ast.Try(body=body, handlers=handlers, orelse=orelse):
                yield from defined_names([*body, *orelse, *(each for handler in handlers for each in handler.body)])


def constants_classes_functions(name: str) -> tuple[int, str]:
    """The order in which ruff wants `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def classes_of(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def base_names(node: ast.ClassDef) -> set[str]:
    """The last part of each base: "Error" of `module.Error`."""
    return {
        base.attr if isinstance(base, ast.Attribute) else base.id
        for base in node.bases
        if isinstance(base, (ast.Attribute, ast.Name))
    }


def looks_like_an_error(name: str) -> bool:
    return name.endswith(("Error", "Exception", "Warning"))


def is_builtin(error: type) -> bool:
    """Whether a builtin exception other than Exception is among the bases."""
    general = (Exception, BaseException, object)
    return any(base.__module__ == "builtins" and base not in general for base in error.__mro__)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short_enough_to_be_one_noun(path: Path) -> None:
    lines = len(path.read_text().splitlines())

    assert lines < MAX_LINES, f"{name_of(path)} has {lines} lines: split it where its second noun begins"


@pytest.mark.parametrize("path", [path for path in MODULES if not is_private(path) and has_code(path)], ids=name_of)
def test_a_public_module_lists_what_it_exports_sorted_and_true(path: Path) -> None:
    tree = parse(path)
    names = exports(tree)

    assert names is not None, "no __all__"
    assert names == sorted(set(names), key=constants_classes_functions)
    assert set(names) <= set(defined_names(tree.body))


@pytest.mark.parametrize("path", [path for path in MODULES if not name_of(path).startswith("runner/cli/")], ids=name_of)
def test_only_the_cli_prints(path: Path) -> None:
    prints = [
        node.lineno
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]

    assert prints == []


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) != "runner/errors.py"], ids=name_of)
def test_errors_are_defined_in_the_tree_only(path: Path) -> None:
    astray = [
        node.name
        for node in classes_of(parse(path))
        if (looks_like_an_error(node.name) or any(looks_like_an_error(base) for base in base_names(node)))
        # click takes the exit code and the text of a command that failed from an exception of its own type.
        and base_names(node) != {"ClickException"}
    ]

    assert astray == []


def test_every_error_of_the_tree_is_exported() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert set(errors.__all__) == defined


def test_an_error_is_also_the_builtin_that_a_caller_expects() -> None:
    tree = [getattr(errors, name) for name in errors.__all__]
    # An error with others below it names a group; those below say what happened.
    raised = [error for error in tree if not any(error in other.__bases__ for other in tree)]

    lacking = [error.__name__ for error in raised if not issubclass(error, errors.RunnerError) or not is_builtin(error)]

    assert lacking == []

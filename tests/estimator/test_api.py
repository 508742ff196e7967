"""The public names of the original, each with its signature, in the namespaces of this package."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner import estimator as tfe
from runner.estimator import v1

ROOT = Path(__file__).parent.parent
API: dict[str, dict[str, Any]] = json.loads((ROOT / "fixtures" / "api.json").read_text())
"""By name, as recorded of TensorFlow 2.15: parameters as [name] or [name, default], for methods without self."""

TESTS = [path.read_text() for path in sorted(ROOT.rglob("test_*.py")) if path.name != "test_api.py"]

NAMESPACES = {"tf.estimator": tfe, "tf.compat.v1.estimator": v1}
DOCUMENTED = (ROOT.parent / "docs" / "estimator.md").read_text().partition("### Names\n")[2].partition("\n#")[0]
EXCEPTIONS = re.findall(r"^\| `([^`]+)` \|", DOCUMENTED, flags=re.MULTILINE)
"""First column of the table of the documentation: names, or all below one as `name.*`."""


def is_exception(name: str) -> bool:
    return any(name == each or (each.endswith(".*") and name.startswith(each[:-1])) for each in EXCEPTIONS)


def resolve(name: str) -> Any:
    prefix = next(each for each in sorted(NAMESPACES, key=len, reverse=True) if name.startswith(f"{each}."))
    value: Any = NAMESPACES[prefix]
    for part in name.removeprefix(f"{prefix}.").split("."):
        value = getattr(value, part)
    return value


def rendered(parameter: inspect.Parameter) -> list[str]:
    """A parameter as the fixture has it: functions by name, objects without an address."""
    stars = str(parameter).partition(parameter.name)[0]
    name = stars + parameter.name
    if parameter.default is inspect.Parameter.empty:
        return [name]
    return [name, re.sub(r" at 0x[0-9a-f]+", "", repr(parameter.default))]


def parameters(function: Any) -> list[list[str]]:
    return [rendered(each) for each in inspect.signature(function).parameters.values()]


def comparable(recorded: list[list[str]]) -> list[list[str]]:
    """Defaults that are private objects are all alike: nobody can pass them."""
    return [
        [name, *("private" if re.match(r"<(object|function _)", each) else each for each in rest)]
        for name, *rest in recorded
    ]


def differences(name: str) -> list[str]:
    """What a symbol lacks, or has otherwise than recorded."""
    recorded = API[name]
    try:
        symbol = resolve(name)
    except AttributeError:
        return ["is missing"]
    return [*differences_of_signature(symbol, recorded), *differences_of_members(symbol, recorded)]


def differences_of_signature(symbol: Any, recorded: dict[str, Any]) -> Iterator[str]:
    if "parameters" in recorded and (given := parameters(symbol)) != recorded["parameters"]:
        yield f"takes {given}"
    if "new" in recorded and (given := parameters(symbol.__new__)[1:]) != recorded["new"]:
        yield f"takes {given}"
    if "fields" in recorded and list(symbol._fields) != recorded["fields"]:
        yield f"has the fields {symbol._fields}"


def differences_of_members(symbol: Any, recorded: dict[str, Any]) -> Iterator[str]:
    for method, expected in recorded.get("methods", {}).items():
        function = getattr(symbol, method, None)
        if not callable(function):
            yield f"has no method {method}"
        elif comparable(given := parameters(function)[1:]) != comparable(expected):
            yield f"has a {method} that takes {given}"
    for attribute in recorded.get("properties", []):
        if not isinstance(inspect.getattr_static(symbol, attribute, None), property):
            yield f"has no property {attribute}"
    for constant, value in recorded.get("constants", {}).items():
        if repr(getattr(symbol, constant, None)) != value:
            yield f"has another {constant}"


@pytest.mark.parametrize("name", [name for name in API if not is_exception(name)])
def test_a_name_of_the_original_is_there_with_its_signature(name: str) -> None:
    assert differences(name) == []


@pytest.mark.parametrize("name", [name for name in API if not is_exception(name)])
def test_a_name_of_the_original_has_a_test_or_a_recorded_schema(name: str) -> None:
    word = re.compile(rf"\b{name.rpartition('.')[2]}(_\w+)?\b")  # entries of the schema have a suffix

    assert any(word.search(text) for text in TESTS)


def test_every_documented_exception_is_one() -> None:
    assert EXCEPTIONS
    for exception in EXCEPTIONS:
        names = [name for name in API if name == exception or name.startswith(exception.removesuffix("*"))]
        assert names, f"{exception} is no name of the original"
        for name in names:
            assert differences(name), f"{name} is there: it is no exception"


@pytest.mark.parametrize(
    ("namespace", "name", "reason"),
    [
        (v1, "tpu", "TPUs are out of scope"),
        (tfe, "model_to_estimator", "Models of Keras are out of scope"),
    ],
)
def test_what_is_out_of_scope_says_so(namespace: Any, name: str, reason: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{namespace.__name__}' has no attribute '{name}'. {reason}"):
        getattr(namespace, name)


@pytest.mark.parametrize("namespace", [tfe, v1, tfe.experimental, v1.experimental])
def test_a_name_that_nobody_has_is_an_ordinary_attribute_error(namespace: Any) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        namespace.nothing  # noqa: B018


def test_all_lists_what_is_public() -> None:
    names = {name.removeprefix("tf.estimator.").partition(".")[0] for name in API if name.startswith("tf.estimator.")}
    names_v1 = {name.removeprefix("tf.compat.v1.estimator.").partition(".")[0] for name in API if "v1" in name}

    assert set(tfe.__all__) == names | {"Experiment", "KeepBest", "install"}
    assert set(v1.__all__) == names_v1 - {"tpu"}

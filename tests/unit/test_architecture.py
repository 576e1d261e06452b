"""The package is built as docs/how-it-works.md draws it: what imports what, and how much state a class holds."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SHIM = Path(__file__).parents[2] / "shim"
VOCABULARY = {"shim.repairs", "shim.reports", "shim.errors", "shim.origin"}
FILES = {"shim.files"}
# Each layer may import what stands above it, and nothing below.
LAYERS = (
    VOCABULARY | FILES,
    {"shim.core"},
    {"shim.transport", "shim.fast"},
    {"shim.raw", "shim.service.deadline", "shim.service.find", "shim.service.state", "shim.service.locator"},
    {"shim.client", "shim.installation", "shim._startup"},
    {"shim.service.start", "shim.service.native", "shim.offline", "shim.capture"},
    {"shim.demo", "shim.doctor", "shim.proxy", "shim.cli"},
)
# The package itself and its command open every layer.
DOORS = {"shim", "shim.__main__", "shim.service"}
MOST_ATTRIBUTES = 12
MOST_ANY = 20


def modules() -> dict[str, Path]:
    """The modules of the package, by name."""
    found = {}
    for path in sorted(SHIM.rglob("*.py")):
        parts = path.relative_to(SHIM.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def tree_of(name: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def imports(name: str, tree: ast.Module | None = None) -> set[str]:
    """The modules of the package that a module imports, anywhere in it and for its types as well."""
    found = set()
    for node in ast.walk(tree or tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {known for alias in node.names if (known := nearest(alias.name))}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            origin = node.module or ""
            # `from shim.core import sse` is an import of shim.core.sse; `from shim.errors import X` of shim.errors.
            found |= {known for alias in node.names if (known := nearest(f"{origin}.{alias.name}"))}
    return found - {name}


def nearest(dotted: str) -> str | None:
    """The module of the package that a dotted name lies in, if it lies in one."""
    while dotted and dotted not in MODULES:
        dotted = dotted.rpartition(".")[0]
    return dotted or None


GRAPH = {name: imports(name) for name in MODULES}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or not (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def layer_of(name: str) -> int | None:
    """The number of the layer that a module belongs to; None for a door."""
    if name in DOORS:
        return None
    for number, layer in enumerate(LAYERS):
        if any(name == member or name.startswith(f"{member}.") for member in layer):
            return number
    raise LookupError(name)


def attributes(node: ast.ClassDef) -> set[str]:
    """The attributes of an object of a class: each `self.x` that is assigned, and the fields of a dataclass."""
    found = set()
    for each in ast.walk(node):
        if (
            isinstance(each, ast.Attribute)
            and isinstance(each.ctx, ast.Store)
            and isinstance(each.value, ast.Name)
            and each.value.id == "self"
        ):
            found.add(each.attr)
    is_dataclass = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    is_tuple = any(ast.unparse(base) in ("NamedTuple", "typing.NamedTuple") for base in node.bases)
    if is_dataclass or is_tuple:
        found |= {
            each.target.id
            for each in node.body
            if isinstance(each, ast.AnnAssign)
            and isinstance(each.target, ast.Name)
            and "ClassVar" not in ast.unparse(each.annotation)
        }
    return found


def classes_of_the_core() -> Iterator[tuple[str, ast.ClassDef]]:
    """Each class of the core, with the module it stands in."""
    for name in MODULES:
        if name.startswith("shim.core"):
            yield from ((name, node) for node in ast.walk(tree_of(name)) if isinstance(node, ast.ClassDef))


def test_import_graph_has_no_circle():
    """Imports inside functions and under TYPE_CHECKING count: a reader follows them like any other."""
    assert circles(GRAPH) == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("shim.core")])
def test_core_imports_only_the_core_and_the_vocabulary(name):
    """So it can be used without any HTTP library; other packages it takes from the standard library, and orjson."""
    assert {other for other in GRAPH[name] if not other.startswith("shim.core")} <= VOCABULARY
    assert packages(tree_of(name)) - sys.stdlib_module_names <= {"shim", "orjson"}


def packages(node: ast.AST) -> set[str]:
    """The packages from which something is imported in a tree, but not for types only."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    parts = node.orelse if for_types else ast.iter_child_nodes(node)
    return {package for part in parts for package in packages(part)}


@pytest.mark.parametrize("name", [name for name in MODULES if layer_of(name) is not None])
def test_module_imports_no_later_layer(name):
    """Each layer stands on those before it."""
    own = layer_of(name)
    later = {other for other in GRAPH[name] if (layer_of(other) or 0) > own}
    assert later == set()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("shim.transport")])
def test_transport_imports_no_http_library(name):
    """It works under httpx and under httpx2, whichever of them a program has."""
    assert not {"httpx", "httpx2", "openai"} & packages(tree_of(name))


def test_classes_of_the_core_hold_little_state():
    """No object has more than twelve attributes."""
    large = {
        f"{name}.{node.name}": len(found)
        for name, node in classes_of_the_core()
        if len(found := attributes(node)) > MOST_ATTRIBUTES
    }
    assert large == {}


def test_transport_is_typed():
    """`Any` stands at most twenty times in the transport: types that say nothing are none."""
    count = 0
    for name in MODULES:
        if name.startswith("shim.transport"):
            count += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree_of(name)))
    assert count <= MOST_ANY


# The measures themselves.


def test_circle_of_three_is_found():
    """A module that imports itself over two others is in a circle with them, and nothing else is."""
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]


def test_imports_in_functions_and_for_types_are_found():
    """Wherever they stand, and in whatever form."""
    source = (
        "import shim.core.sse\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shim.errors import X\n"
        "def f():\n    from shim import reports\n    import json\n"
    )
    assert imports("none", ast.parse(source)) == {"shim.core.sse", "shim.errors", "shim.reports"}


def test_imports_for_types_only_bring_no_package():
    """What a type checker alone reads is not imported; what stands beside it is."""
    source = "if TYPE_CHECKING:\n    import httpx\nelse:\n    import json\ndef f():\n    from os.path import join\n"
    assert packages(ast.parse(source)) == {"json", "os"}


def test_attributes_of_all_kinds_are_found():
    """Assigned, annotated, added to, in a tuple, or declared as the field of a dataclass."""
    source = (
        "@dataclass(slots=True)\nclass A:\n    one: int\n    none: ClassVar[int]\n"
        "    def f(self):\n        self.two = 1\n        self.three: int = 2\n        self.four += 1\n"
        "        self.five, other.none = 1, 2\n        self.six.none = self.none\n"
    )
    [node] = ast.parse(source).body
    assert attributes(node) == {"one", "two", "three", "four", "five"}


def test_every_module_has_a_layer():
    """A new module is given its place in the list above."""
    members = defaultdict(list)
    for name in MODULES:
        members[layer_of(name)].append(name)
    assert set(members) == {None, *range(len(LAYERS))}

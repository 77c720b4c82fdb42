"""Every argument that a remedy names is one of the function that raises, or of one that calls it, directly or not."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cached_property

import pytest
from test_errors import arguments_of, class_fields, package_nodes, parameters, raised_remedies

RECIPE, CONFIGURATION = ("Recipe",), ("Recipe", "TrainingConfig", "TrainingOptions", "Experiment")
FIELDS = {
    "trainers/config/": (*CONFIGURATION, "Parsed"),
    "trainers/experiments/": ("Experiment",),
    "trainers/loop/callbacks.py": RECIPE,
    "trainers/loop/optimizers.py": RECIPE,
    "trainers/loop/resume.py": RECIPE,
    "trainers/selfsup/masking.py": CONFIGURATION,
    "trainers/tasks/": RECIPE,
}
"""Files whose remedies name a field of a recipe or of a configuration, which tasks hold; the classes with the field."""
COMMANDS = ("cli/", "trainers/config/")
"""Files whose remedies name an option of a command."""


def module_of(path):
    return ("geoxt." + path.removesuffix(".py").replace("/", ".")).removesuffix(".__init__")


class CallGraph:
    """The functions of the package and their callers, resolved by imports; methods by unique names."""

    def __init__(self):
        self.functions, self.defined, self.imported = {}, defaultdict(dict), defaultdict(dict)
        self.methods, self.members, self.subclasses = defaultdict(list), defaultdict(set), defaultdict(set)
        self.classes, self._names = {}, {}
        for path, nodes in package_nodes().items():
            self._define(module_of(path), nodes[0], None, None)

    def _define(self, module, node, owner, outer):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                self.classes[child.name] = child
                self.defined[module].setdefault(child.name, set())
                for base in child.bases:
                    self.subclasses[getattr(base, "id", getattr(base, "attr", ""))].add(child.name)
                self._define(module, child, child, outer)
            elif isinstance(child, ast.FunctionDef):
                key = module, child.lineno
                self.functions[key] = child, owner, outer
                if owner is not None:
                    self.methods[child.name].append(key)
                    self.members[owner.name].add(key)
                    self.defined[module][owner.name].add(key)
                elif outer is None:
                    self.defined[module].setdefault(child.name, set()).add(key)
                self._define(module, child, None, key)
            elif isinstance(child, ast.ImportFrom):
                self.imported[module] |= {a.asname or a.name: (child.module, a.name) for a in child.names}
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                self._define(module, child, owner, outer)

    def _resolve(self, module, name):
        """Return the functions of an imported name (a class: its methods), or the module of that name."""
        for _ in range(9):  # a package imports a function of the name of its module
            if name in self.defined.get(module, {}):
                return self.defined[module][name], None
            if name not in self.imported.get(module, {}):
                break
            module, name = self.imported[module][name]
            if f"{module}.{name}" in self.defined:
                return set(), f"{module}.{name}"
        return set(), None

    @cached_property
    def callers(self):
        callers = defaultdict(set)
        for key, (function, owner, outer) in self.functions.items():
            nodes = [node for node in ast.walk(function) if isinstance(node, ast.Name | ast.Attribute)]
            for node in nodes:
                targets = set()
                if isinstance(node, ast.Name):
                    targets, _ = self._resolve(key[0], node.id)
                elif isinstance(node, ast.Attribute):
                    inner = self._resolve(key[0], node.value.id)[1] if isinstance(node.value, ast.Name) else None
                    unique = self.methods[node.attr] if len(self.methods[node.attr]) == 1 else ()
                    targets = self.defined[inner].get(node.attr, set()) if inner else set(unique)
                for target in targets:
                    callers[target].add(key)
            if outer:
                callers[key].add(outer)
            if owner is not None:
                related = set().union(*(self.members[name] for name in self.subclasses[owner.name]))
                callers[key] |= (self.members[owner.name] | related) - {key}
        return callers

    def arguments(self, key):
        """Return the arguments of a function, and the fields of its class and of its TypedDict of keywords."""
        if key in self._names:
            return self._names[key]
        function, owner, _ = self.functions[key]
        names = parameters(function) | (class_fields(owner) if owner is not None else set())
        keywords = function.args.kwarg.annotation if function.args.kwarg else None
        classes = [n.id for n in ast.walk(keywords) if isinstance(n, ast.Name)] if keywords else []
        while classes:
            if (node := self.classes.get(classes.pop())) is not None:
                names |= class_fields(node)
                classes += [base.id for base in node.bases if isinstance(base, ast.Name)]
        self._names[key] = names
        return names

    def missing(self, key, names):
        """Return those of the names that are arguments neither of a function nor of one that calls it."""
        names, reached, todo = set(names), {key}, [key]
        while names and todo:
            following = {caller for function in todo for caller in self.callers[function]} - reached
            for function in todo:
                names -= self.arguments(function)
            reached |= following
            todo = [*following]
        return names


def options_of_commands():
    """Return the names of all options and positional arguments of the command line."""
    calls = [node for path, nodes in package_nodes().items() if path.startswith(COMMANDS) for node in nodes]
    calls = [call for call in calls if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument"]
    named = [
        argument for call in calls for argument in (*call.args, *(k.value for k in call.keywords if k.arg == "dest"))
    ]
    texts = [str(argument.value) for argument in named if isinstance(argument, ast.Constant)]
    return {text.lstrip("-").replace("-", "_") for text in texts}


@pytest.fixture(scope="module")
def graph():
    return CallGraph()


def test_remedies_name_arguments_of_the_functions_that_lead_to_them(graph):
    options, unknown = options_of_commands(), []
    for source, functions, remedy in raised_remedies():
        if not (names := set(arguments_of(remedy))):
            continue
        path, _ = source.rsplit(":", 1)
        missing = graph.missing((module_of(path), functions[-1].lineno), names) if functions else names
        missing -= options if path.startswith(COMMANDS) else set()
        for name in next((classes for prefix, classes in FIELDS.items() if path.startswith(prefix)), ()):
            missing -= class_fields(graph.classes[name])
        unknown += [f"{source}: {sorted(missing)}"] if missing else []
    assert not unknown


def test_graph_leads_from_a_private_function_to_public_ones(graph):
    (private,) = graph.defined["geoxt.trainers.loop.fit"]["_require_distributed"]
    assert graph.missing(private, {"devices", "epochs", "checkpoint_every", "min_covered"}) == {"min_covered"}

"""Every component states its contract: a docstring with its members."""

import importlib
import pkgutil
import re

import pytest
from amaranth.lib import wiring
from gatewright import hw
from gatewright.boards import link

MODULES = [
    importlib.import_module(module.name)
    for package in (hw, link)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
COMPONENTS = sorted(
    {
        part
        for module in MODULES
        for part in vars(module).values()
        if isinstance(part, type)
        and issubclass(part, wiring.Component)
        and part.__module__ == module.__name__
    },
    key=lambda part: part.__qualname__,
)


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda part: part.__qualname__)
def test_a_component_says_what_it_does_and_lists_its_members(component):
    assert component.__doc__, f"{component.__qualname__} has no docstring"
    if "__init__" in vars(component):  # else the members are annotations, or those of its base
        found = [
            re.search(r"\n *Members\n *-+\n", part.__doc__ or "") for part in component.__mro__
        ]
        assert any(found), f"{component.__qualname__} lists no members"

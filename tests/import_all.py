"""Import every module of the installed package and look for its data (run outside the tree)."""

import importlib
import pkgutil
import sys
from pathlib import Path

import gatewright

names = [
    m.name
    for m in pkgutil.walk_packages(gatewright.__path__, "gatewright.")
    if not m.name.endswith("__main__")
]
for name in names:
    importlib.import_module(name)
sys.stdout.write(f"{len(names)} modules of {gatewright.__file__} import\n")
assert len(names) > 60

tree, installed = Path(__file__).parents[1], Path(gatewright.__file__).parent
data = [
    path.relative_to(tree)
    for folder in ("boards", "compiler", "hw", "sim")
    for path in (tree / folder).rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
]
missing = [str(path) for path in data if not (installed / path).is_file()]
assert not missing, f"{', '.join(missing)}: not installed; list under package-data"
sys.stdout.write(f"{len(data)} data files are installed: {', '.join(map(str, data))}\n")

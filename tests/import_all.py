"""Import every module of the installed package (run outside the source tree)."""

import importlib
import pkgutil
import sys

import gatewright

names = [m.name for m in pkgutil.walk_packages(gatewright.__path__, "gatewright.")
         if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
sys.stdout.write(f"{len(names)} modules of {gatewright.__file__} import\n")
assert len(names) > 60

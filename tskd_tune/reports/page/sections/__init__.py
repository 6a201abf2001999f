"""The sections of the page, one per file. Every file of this folder is imported and registers its section."""

from importlib import import_module
from pkgutil import iter_modules

from tskd_tune.reports.page.section import SECTIONS

__all__ = ["OWN", "SECTIONS"]

OWN = frozenset(_module.name for _module in iter_modules(__path__))
"""The names of the package's own sections: those of their files."""

for _name in sorted(OWN):
    import_module(f"{__name__}.{_name}")

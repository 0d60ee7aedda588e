"""Objects that print as one line, and in a notebook as a small table."""

from collections.abc import Mapping
from html import escape

__all__ = ["Brief"]


class Brief:
    """Prints as what :meth:`facts` says. A dataclass of it has ``repr=False``."""

    def facts(self) -> Mapping[str, object]:
        """What a reader wants to know first: few, short entries by their names."""
        raise NotImplementedError

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {value}" for name, value in self.facts().items())
        return f"<{type(self).__name__}: {said}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in self.facts().items()
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"

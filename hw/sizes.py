"""Integer arithmetic on sizes."""

__all__ = ["ceil_div"]


def ceil_div(a: int, b: int) -> int:
    """``a / b``, rounded up."""
    return -(-a // b)

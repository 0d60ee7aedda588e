"""Sites of the MULT18X18D on each ECP5: rows of the chip, in blocks of four.

The tables are what nextpnr reports for a netlist of multipliers alone (``boards.flow.ecp5_sites``).
"""

__all__ = ["LFE5U_25F", "LFE5U_45F", "LFE5U_85F", "path"]

#: column and number of a block's multipliers, from the column the block begins at
_BLOCK = ((0, 0), (1, 1), (4, 4), (5, 5))


def path(rows: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[str, ...]:
    """All sites along the rows, to and fro, so that the next one is always near."""
    along = [(block + column, number) for block in blocks for column, number in _BLOCK]
    return tuple(
        f"X{x}/Y{y}/MULT18_{number}"
        for n, y in enumerate(rows)
        for x, number in (along if n % 2 == 0 else along[::-1])
    )


LFE5U_25F = path((13,), (4, 13, 22, 33, 42, 51, 60))
LFE5U_45F = path((22, 46), (4, 13, 22, 31, 42, 51, 60, 69, 78))
LFE5U_85F = path((10, 34, 58), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114))

"""How many examples the generated tests ran."""

from .running import COUNTS, SECONDS


def pytest_terminal_summary(terminalreporter):
    for name, count in COUNTS.items() if SECONDS else ():
        terminalreporter.write_line(f"{name}: {count} examples")

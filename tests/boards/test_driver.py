"""The driver against the board's Python model, over memory and over a pseudo-terminal."""

import pytest
from gatewright.boards.link.driver import Host, LinkError, open_port
from gatewright.boards.link.emulator import BoardModel, MemoryPort, PtyBoard
from gatewright.boards.link.gateware import LinkConfig
from gatewright.boards.link.protocol import Fault
from gatewright.compiler.errors import DataError

CONFIG = LinkConfig(
    beats_in=4,
    bits_in=20,
    beats_out=2,
    bits_out=8,
    clock_hz=25_000_000,
    baud=1_000_000,
    design_id=0xABCDEF,
    pause_seconds=0.01,
)
FRAME = [0, 1, 0xFFFFF, 0x12345]


def compute(beats):
    return [sum(beats) % 256, len(beats)]


def host(computes=compute, config=CONFIG, spoil=None):
    return Host(MemoryPort(BoardModel(config, computes, cycles=77), spoil), CONFIG, patience=0.05)


def flip(index):
    def spoil(data):
        changed = bytearray(data)
        if len(data) > 2:
            changed[index] ^= 1
        return bytes(changed)

    return spoil


def test_a_frame_runs():
    answer = host().run(FRAME)
    assert list(answer.beats) == compute(FRAME)
    assert answer.cycles == 77


def test_a_ping_finds_the_design():
    assert host().ping() is Fault.NONE


@pytest.mark.parametrize(
    ("beats", "message"),
    [
        (FRAME[1:], "a frame has 4 beats, not 3"),
        ([0, 0, 1 << 20, 0], "beat 2 is 1048576, which is no unsigned number of 20 bits"),
        ([0, -1, 0, 0], "beat 1 is -1"),
    ],
)
def test_a_frame_of_the_wrong_shape_is_refused(beats, message):
    with pytest.raises(DataError, match=message):
        host().run(beats)


def test_another_design_on_the_board_is_noticed():
    other = LinkConfig(**{**vars(CONFIG), "design_id": 5})
    with pytest.raises(LinkError, match="runs design 0000000000000005, not 0000000000abcdef"):
        host(config=other).ping()


def test_a_silent_board_is_reported():
    with pytest.raises(LinkError, match="does not answer: is it programmed"):
        host(spoil=lambda data: b"").run(FRAME)


def test_an_accelerator_that_hangs_is_reported():
    with pytest.raises(LinkError, match="the accelerator was still at work"):
        host(lambda beats: None).run(FRAME)


def test_lost_bytes_are_reported():
    with pytest.raises(LinkError, match="some of the frame's bytes never reached the board"):
        host(spoil=lambda data: data[:6]).run(FRAME)


def test_a_damaged_request_is_reported():
    with pytest.raises(LinkError, match="the frame reached the board with errors"):
        host(spoil=flip(5)).run(FRAME)


def test_a_frame_runs_through_a_terminal():
    with (
        PtyBoard(BoardModel(CONFIG, compute, cycles=5)) as board,
        Host(open_port(board.port, CONFIG.baud), CONFIG) as driver,
    ):
        assert driver.ping() is Fault.NONE
        for frame in (FRAME, FRAME[::-1], [9, 9, 9, 9]):
            assert list(driver.run(frame).beats) == compute(frame)


def test_a_port_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(LinkError, match="can not be opened"):
        open_port(str(tmp_path / "ttyUSB9"), 115200)

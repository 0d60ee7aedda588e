"""The driver against the board's Python model, over memory and over a pseudo-terminal."""

import json
import os
import time
from dataclasses import asdict, replace

import pytest
from gatewright.boards.link.driver import Host, LinkError, open_port
from gatewright.boards.link.emulator import BoardModel, MemoryPort, PtyBoard
from gatewright.boards.link.gateware import LinkConfig
from gatewright.boards.link.protocol import (
    Fault,
    LinkPort,
    checksum,
    link_config,
    ping_request,
)
from gatewright.compiler.errors import DataError

CONFIG = LinkConfig(
    inputs=(LinkPort("x", "s_axis", 4, 20),),
    outputs=(LinkPort("y", "m_axis", 2, 8),),
    clock_hz=25_000_000,
    baud=1_000_000,
    design_id=0xABCDEF,
    pause_seconds=0.01,
)
FRAME = [0, 1, 0xFFFFF, 0x12345]


def compute(beats):
    return {"y": [sum(beats["x"]) % 256, len(beats["x"])]}


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
    answer = host().run({"x": FRAME})
    assert list(answer.beats["y"]) == compute({"x": FRAME})["y"]
    assert answer.cycles == 77


def test_a_ping_finds_the_design():
    assert host().ping() is Fault.NONE


@pytest.mark.parametrize(
    ("beats", "message"),
    [
        (FRAME[1:], "x: a frame has 4 beats, not 3"),
        ([0, 0, 1 << 20, 0], "x: beat 2 is 1048576, which is no unsigned number of 20 bits"),
        ([0, -1, 0, 0], "x: beat 1 is -1"),
    ],
)
def test_a_frame_of_the_wrong_shape_is_refused(beats, message):
    with pytest.raises(DataError, match=message):
        host().run({"x": beats})


def test_a_frame_of_other_inputs_is_refused():
    with pytest.raises(DataError, match="a frame has beats of x, but z were given"):
        host().run({"z": FRAME})


def test_every_port_has_its_beats():
    """Inputs and outputs of several widths, in the declared order."""
    config = replace(
        CONFIG,
        inputs=(LinkPort("a", "s_axis_a", 3, 8), LinkPort("b", "s_axis_b", 2, 20)),
        outputs=(LinkPort("sum", "m_axis_sum", 2, 24), LinkPort("echo", "m_axis_echo", 3, 8)),
    )

    def mixed(beats):
        sums = [x + y for x, y in zip(beats["a"], beats["b"], strict=False)]
        return {"echo": [beat + 1 for beat in beats["a"]], "sum": sums}

    with (
        PtyBoard(BoardModel(config, mixed, cycles=9)) as board,
        Host(open_port(board.port, config.baud), config) as driver,
    ):
        answer = driver.run({"b": [0xFFFF0, 5], "a": [1, 2, 3]})
    assert answer.beats == {"sum": (0xFFFF1, 7), "echo": (2, 3, 4)}
    assert answer.cycles == 9
    assert config.request_bytes == 2 + 3 + 2 * 3 + 2


def test_another_design_on_the_board_is_noticed():
    other = LinkConfig(**{**vars(CONFIG), "design_id": 5})
    with pytest.raises(LinkError, match="runs design 0000000000000005, not 0000000000abcdef"):
        host(config=other).ping()


def test_a_silent_board_is_reported():
    with pytest.raises(LinkError, match="does not answer: is it programmed"):
        host(spoil=lambda data: b"").run({"x": FRAME})


def test_an_accelerator_that_hangs_is_reported():
    with pytest.raises(LinkError, match="the accelerator was still at work"):
        host(lambda beats: None).run({"x": FRAME})


def test_lost_bytes_are_reported():
    with pytest.raises(LinkError, match="some of the frame's bytes never reached the board"):
        host(spoil=lambda data: data[:6]).run({"x": FRAME})


def test_a_damaged_request_is_reported():
    with pytest.raises(LinkError, match="the frame reached the board with errors"):
        host(spoil=flip(5)).run({"x": FRAME})


def test_a_frame_runs_through_a_terminal():
    with (
        PtyBoard(BoardModel(CONFIG, compute, cycles=5)) as board,
        Host(open_port(board.port, CONFIG.baud), CONFIG) as driver,
    ):
        assert driver.ping() is Fault.NONE
        for frame in (FRAME, FRAME[::-1], [9, 9, 9, 9]):
            assert list(driver.run({"x": frame}).beats["y"]) == compute({"x": frame})["y"]


def test_a_port_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(LinkError, match="can not be opened"):
        open_port(str(tmp_path / "ttyUSB9"), 115200)


class Babble:
    """A port that never falls silent."""

    timeout = None

    def __init__(self, byte=b"\x55"):
        self.byte = byte

    def write(self, data):
        return len(data)

    def read(self, size=1):
        return self.byte * size

    def reset_input_buffer(self):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("byte", [b"\x00", b"\x55", b"\xa5"])
def test_endless_bytes_end_with_the_deadline(byte):
    start = time.monotonic()
    with pytest.raises(LinkError, match=r"the \d+ bytes that came are no answer of the board"):
        Host(Babble(byte), CONFIG, patience=0.1).run({"x": FRAME})
    assert time.monotonic() - start < 2


class Answer(MemoryPort):
    """A port at which every request gets one answer: a body under its command, with its CRC. A ping
    that asks for no such body is answered by a board.
    """

    def __init__(self, command, body):
        super().__init__(BoardModel(CONFIG, compute))
        self.command, self.answer = command, b"\xa5" + command + body + checksum(body)

    def write(self, data):
        if data == ping_request() and self.command != b"P":
            return super().write(data)
        self._arrived += self.answer
        return len(data)


@pytest.mark.parametrize("status", [2, 3, 0x80, 0xFF])
def test_an_unknown_status_is_refused(status):
    body = bytes([10, 4]) + (77).to_bytes(4, "little") + bytes([status])
    with pytest.raises(LinkError, match=f"the status {status}, which this gatewright does not"):
        Host(Answer(b"F", body), CONFIG, patience=0.05).run({"x": FRAME})


@pytest.mark.parametrize("fault", [4, 0xFF])
def test_an_unknown_fault_is_refused(fault):
    body = CONFIG.design_id.to_bytes(8, "little") + bytes([fault])
    with pytest.raises(LinkError, match=f"the fault {fault}, which this gatewright does not"):
        Host(Answer(b"P", body), CONFIG, patience=0.05).ping()


def test_an_answer_whose_crc_is_wrong_is_refused():
    port = Answer(b"F", bytes(7))
    port.answer = port.answer[:-1] + bytes([port.answer[-1] ^ 1])
    with pytest.raises(LinkError, match="the board's answer arrived with errors"):
        Host(port, CONFIG, patience=0.05).run({"x": FRAME})


def test_a_closed_port_is_reported():
    with PtyBoard(BoardModel(CONFIG, compute)) as board:
        port = open_port(board.port, CONFIG.baud)
        port.close()
        with pytest.raises(LinkError, match="the serial port failed"):
            Host(port, CONFIG).ping()


def test_a_port_that_vanishes_is_reported():
    ours, theirs = os.openpty()
    with Host(open_port(os.ttyname(theirs), CONFIG.baud), CONFIG, patience=0.1) as driver:
        os.close(ours)
        os.close(theirs)
        with pytest.raises(LinkError, match="the serial port failed"):
            driver.ping()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs", {}),
        ("baud", 1 << 70),
        ("buffered", 1),
        ("pause_seconds", 9e9),
    ],
)
def test_a_link_of_wrong_values_is_refused(key, value, tmp_path):
    file = tmp_path / "build.json"
    link = json.loads(json.dumps(asdict(CONFIG)))
    assert link_config(file, {"link": link}) == CONFIG
    with pytest.raises(DataError, match=f'build.json: link: "{key}" is '):
        link_config(file, {"link": link | {key: value}})


@pytest.mark.parametrize(("key", "value"), [("beats", 0), ("beats", "4"), ("bits", 1 << 40)])
def test_a_port_of_wrong_values_is_refused(key, value, tmp_path):
    link = json.loads(json.dumps(asdict(CONFIG)))
    link["outputs"][0][key] = value
    with pytest.raises(DataError, match=f'build.json: link: outputs: 0: "{key}" is '):
        link_config(tmp_path / "build.json", {"link": link})


def test_the_link_of_an_older_build_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"of an older gatewright, .*; compile and build again"):
        link_config(tmp_path / "build.json", {"link": {"beats_in": 4, "bits_in": 8}})

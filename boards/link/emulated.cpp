// The compiled board: bytes from standard input go in at the wire `rx`, those that the board says at
// `tx` come out at standard output. The last argument is a descriptor that gets a line for each frame: what moved, and when.
//
// Time passes only where something happens. While the host is silent in the middle of a request the
// clocks stand still; once it has been silent for the agreed pause they run for as long as the board
// waits before it gives up the request.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <poll.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "Vemulated.h"
#include "verilated.h"

namespace {

constexpr uint64_t kSettle = 128;  // cycles until a byte has passed through the link
constexpr int kPollEvery = 256;

struct Settings {
    uint64_t clock_hz, link_hz, baud, byte_cycles, pause_ms, pause_cycles;
    int traces;
};

// A frame's beats at each tap: how many, and in which cycles.
struct Tap {
    std::vector<uint64_t> cycles;
};

class Board {
public:
    explicit Board(const Settings& settings) : s(settings), taps(TAPS) {
        uart_hz = s.link_hz ? s.link_hz : s.clock_hz;
        bit = double(uart_hz) / double(s.baud);
        // A receiver of few cycles a bit needs a second stop bit between bytes without a pause.
        size = bit < 8 ? 11 : 10;
        top.rx = 1;
        reset();
    }

    void reset() {
        top.rst = top.link_rst = 1;
        for (int n = 0; n < 16; ++n) clock();
        top.rst = top.link_rst = 0;
        quiet = 0;
    }

    void push(const uint8_t* data, size_t size) { bytes.insert(bytes.end(), data, data + size); }
    bool wants_bytes() const { return bytes.empty() && sent_bits >= size; }
    bool half_received() const { return wants_bytes() && top.waiting && quiet > kSettle; }
    bool idle() const {
        return wants_bytes() && !top.running && !hearing && quiet > kSettle + uint64_t(12 * bit);
    }

    // One cycle of the clock that the bits are made from.
    void step() {
        drive();
        clock();
        listen();
        follow();
        ++quiet;
    }

private:
    const Settings s;
    Vemulated top;
    uint64_t uart_hz, phase = 0, cycle = 0, quiet = 0, since_byte = ~0ull;
    double bit, left = 0;
    std::deque<uint8_t> bytes;
    unsigned shift = 1, size = 10, sent_bits = 11;
    bool hearing = false, was_running = false;
    double until = 0;
    unsigned heard = 0, heard_bits = 0;
    std::vector<Tap> taps;

    void clock() {
        if (!s.link_hz) {
            top.link_clk = 1;
            tick();
            top.link_clk = 0;
            return;
        }
        top.link_clk = 1;
        top.eval();
        for (phase += s.clock_hz; phase >= s.link_hz; phase -= s.link_hz) tick();
        top.link_clk = 0;
        top.eval();
    }

    void tick() {
        top.clk = 1;
        top.eval();
        top.clk = 0;
        top.eval();
        ++cycle;
        uint64_t moves = top.moves;
        if (moves && was_running)
            for (int n = 0; n < TAPS; ++n)
                if (moves >> n & 1) taps[n].cycles.push_back(cycle);
    }

    // The line from the host. A byte of the emulated line is short; where the accelerator is at
    // work it takes as long as on the board.
    void drive() {
        ++since_byte;
        if (sent_bits >= size) {
            bool at_work = top.running && !top.waiting;
            if (bytes.empty() || (at_work && since_byte < s.byte_cycles)) return;
            shift = unsigned(bytes.front()) << 1 | 0x600;
            bytes.pop_front();
            sent_bits = 0;
            left = 0;
            since_byte = 0;
        }
        top.rx = shift >> sent_bits & 1;
        quiet = 0;
        if (++left >= bit) {
            left -= bit;
            ++sent_bits;
        }
    }

    // The line to the host; each bit is sampled in its middle.
    void listen() {
        if (!hearing) {
            if (top.tx) return;
            hearing = true;
            until = 1.5 * bit;
            heard = heard_bits = 0;
        }
        quiet = 0;
        if (--until >= 0) return;
        until += bit;
        if (heard_bits < 8) {
            heard |= unsigned(top.tx) << heard_bits++;
            return;
        }
        hearing = false;
        if (!top.tx) return;  // no stop bit
        uint8_t byte = uint8_t(heard);
        while (write(1, &byte, 1) < 0)
            if (errno != EINTR) exit(0);
    }

    // Report a frame when it has ended.
    void follow() {
        if (top.running && !was_running)
            for (auto& tap : taps) tap.cycles.clear();
        if (!top.running && was_running) report();
        was_running = top.running;
    }

    void report() {
        uint64_t first = ~0ull, last = 0;
        for (auto& tap : taps) {
            if (tap.cycles.empty()) continue;
            first = std::min(first, tap.cycles.front());
            last = std::max(last, tap.cycles.back());
        }
        if (first > last) return;
        constexpr uint64_t kBins = 120;
        uint64_t span = last - first + 1;
        std::string line = "{\"cycles\": " + std::to_string(last - first) + ", \"taps\": [";
        for (int n = 0; n < TAPS; ++n) {
            uint64_t bins[kBins] = {};
            for (uint64_t at : taps[n].cycles) ++bins[(at - first) * kBins / span];
            bool any = !taps[n].cycles.empty();
            line += n ? ", {" : "{";
            line += "\"beats\": " + std::to_string(taps[n].cycles.size());
            line += ", \"first\": " + std::to_string(any ? taps[n].cycles.front() - first : 0);
            line += ", \"last\": " + std::to_string(any ? taps[n].cycles.back() - first : 0);
            line += ", \"bins\": [";
            for (uint64_t b = 0; b < kBins; ++b)
                line += (b ? "," : "") + std::to_string(bins[b]);
            line += "]}";
        }
        line += "]}\n";
        if (write(s.traces, line.data(), line.size()) < 0) return;  // nobody listens
    }
};

// Bytes from the host within `milliseconds` (-1: any time): 1 if there were any, 0 if not, -1 at the
// end of the conversation.
int hear(Board& board, int milliseconds) {
    pollfd from{0, POLLIN, 0};
    int ready = poll(&from, 1, milliseconds);
    if (ready <= 0) return 0;
    uint8_t data[4096];
    ssize_t size = read(0, data, sizeof data);
    if (size <= 0) return -1;
    board.push(data, size_t(size));
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 8) return 2;
    auto number = [&](int at) { return std::strtoull(argv[at], nullptr, 10); };
    Settings settings{number(1), number(2), number(3), number(4), number(5), number(6),
                      int(number(7))};
    Verilated::randReset(0);
    auto board = std::make_unique<Board>(settings);
    for (;;) {
        if (board->idle()) {
            if (hear(*board, -1) < 0) return 0;
        } else if (board->half_received()) {
            int heard = hear(*board, int(settings.pause_ms));
            if (heard < 0) return 0;
            if (!heard)
                for (uint64_t n = 0; n < 3 * settings.pause_cycles; ++n) board->step();
        } else if (board->wants_bytes()) {
            if (hear(*board, 0) < 0) return 0;
        }
        for (int n = 0; n < kPollEvery; ++n) {
            board->step();
            if (board->wants_bytes() && (board->idle() || board->half_received())) break;
        }
    }
}

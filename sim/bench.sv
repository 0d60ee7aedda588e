// One accelerator between sources that read beats from files and sinks that write them to files.
//
// The simulator runs in a folder that holds `source_N.hex` for each input, one beat a line; it
// leaves there
//
//   sink_N.hex         every beat taken from output N, one a line
//   tap_N.hex          every beat that moved at tap N
//   source_N.cycles    the cycle of the first beat in of each frame, one a line
//   sink_N.cycles      the cycle of the last beat out of each frame, one a line
//   probe_N.counts     what stage N did in each span of cycles, one span a line
//   level_N.counts     the same for queue N
//
// `ports.svh` holds the accelerator with its sources and sinks, `taps.svh` the taps and `probes.svh`
// the probes (either may be empty). Plusargs: span (cycles of a line of counts), spans (lines; one
// more holds the rest of the run); for each port source_N_beats, sink_N_beats (of the whole run), source_N_frame,
// sink_N_frame (beats of one frame), source_N_seed, sink_N_seed (not 0); for all: stall (of 2^32:
// the chance that a port stalls), hold (a power of two: a stall or a run lasts 1 to that many
// cycles), watchdog (quiet cycles until the run is given up). Every port stalls on its own.
//
// Python raises `start` and waits for `done`. It is not called in between, which makes the
// simulation fast.

`timescale 1ns / 1ns

module bench #(
    parameter SOURCES = 1,
    parameter SINKS = 1,
    parameter TAPS = 0
);
    // Long enough for a surplus beat behind the last one to appear.
    localparam DRAIN = 64;
    // Python starts the run within a few cycles; a run that is not started ends by itself.
    localparam PATIENCE = 10000;

    reg clk = 0, rst = 1, start = 0, done = 0;
    always #1 clk = !clk;

    reg [63:0] watchdog = 1000, cycle = 0, quiet = 0;
    reg [31:0] stall = 0, hold = 1;
    reg [63:0] span = 1, spans = 0, span_cycle = 0, span_count = 0;
    integer found;

    initial begin
        found = $value$plusargs("stall=%d", stall);
        found = $value$plusargs("hold=%d", hold);
        found = $value$plusargs("watchdog=%d", watchdog);
        found = $value$plusargs("span=%d", span);
        found = $value$plusargs("spans=%d", spans);
`ifdef WAVES
        $dumpfile("waves");
        $dumpvars(0, bench);
`endif
    end

    wire running = start && !done;

    wire [SOURCES-1:0] source_moves, source_complete;
    wire [SINKS-1:0] sink_moves, sink_complete, sink_surplus;
    wire [TAPS:0] tap_moves, tap_complete;
    assign tap_moves[TAPS] = |source_moves || |sink_moves;
    assign tap_complete[TAPS] = &source_complete && &sink_complete;

`include "ports.svh"
    // High in the last cycle of each span that has a line of its own.
    wire span_ends = running && span_cycle == span - 1 && span_count != spans;
    always @(posedge clk) if (running) begin
        span_cycle <= span_ends ? 0 : span_cycle + 1;
        if (span_ends) span_count <= span_count + 1;
    end

`include "taps.svh"
`include "probes.svh"

    reg [31:0] unstarted = 0;
    always @(posedge clk) if (!start) begin
        unstarted <= unstarted + 1;
        if (unstarted == PATIENCE) $finish;
    end

    always @(posedge clk) if (running) begin
        if (quiet >= watchdog || (&tap_complete && quiet >= DRAIN) || |sink_surplus)
            done <= 1;
        else begin
            cycle <= cycle + 1;
            quiet <= |tap_moves ? 0 : quiet + 1;
        end
    end
endmodule

// Whether a port stalls: drawn with the chance `stall`, and held for 1 to `hold` cycles.
module pauses #(
    parameter FIRST = 0
) (
    input clk,
    input running,
    input [31:0] seed,
    input [31:0] stall,
    input [31:0] hold,
    output reg pause
);
    reg [31:0] random = 1, left = 0;

    function [31:0] xorshift(input [31:0] x);
        begin
            xorshift = x ^ (x << 13);
            xorshift = xorshift ^ (xorshift >> 17);
            xorshift = xorshift ^ (xorshift << 5);
        end
    endfunction

    initial pause = FIRST;

    always @(posedge clk) if (running) begin
        random <= xorshift(random);
        if (left == 0) begin
            pause <= random < stall;
            // Short ones are likelier than long ones.
            left <= ((random >> 3) & (random >> 17)) & (hold - 1);
        end else
            left <= left - 1;
    end else
        random <= seed;
endmodule

// Presents a beat until it is taken, and garbage while it presents none.
module source #(
    parameter WIDTH = 8,
    parameter INDEX = 0
) (
    input clk,
    input running,
    input [63:0] cycle,
    input [63:0] beats,
    input [63:0] frame,
    input [31:0] seed,
    input [31:0] stall,
    input [31:0] hold,
    output reg valid,
    input ready,
    output reg [WIDTH-1:0] data,
    output reg last,
    output moves,
    output complete,
    output reg [63:0] moved,
    output reg [63:0] stalls
);
    reg [63:0] read = 0, read_position = 0, position = 0;
    reg [WIDTH-1:0] next;
    reg [8*32-1:0] name;
    integer file, cycles, found;
    wire pause;

    pauses #(.FIRST(0)) pauses (
        .clk(clk), .running(running), .seed(seed), .stall(stall), .hold(hold), .pause(pause)
    );

    assign moves = running && valid && ready;
    assign complete = moved == beats;

    initial begin
        valid = 0;
        data = 0;
        last = 0;
        moved = 0;
        stalls = 0;
        $sformat(name, "source_%0d.hex", INDEX);
        file = $fopen(name, "r");
        $sformat(name, "source_%0d.cycles", INDEX);
        cycles = $fopen(name, "w");
    end

    always @(posedge clk) if (running) begin
        if (!valid || ready) begin
            if (read == beats || pause) begin
                valid <= 0;
                data <= ~data;
                last <= !last;
                if (read != beats) stalls <= stalls + 1;
            end else begin
                found = $fscanf(file, "%h", next);
                valid <= 1;
                data <= next;
                last <= read_position == frame - 1;
                read_position <= read_position == frame - 1 ? 0 : read_position + 1;
                read <= read + 1;
            end
        end

        if (moves) begin
            if (position == 0) begin
                $fwrite(cycles, "%0d\n", cycle);
                $fflush(cycles);
            end
            position <= position == frame - 1 ? 0 : position + 1;
            moved <= moved + 1;
        end
    end
endmodule

// Takes beats, and checks that a beat, once presented, stays as it is until it is taken.
module sink #(
    parameter WIDTH = 8,
    parameter INDEX = 0,
    parameter DRAIN = 64
) (
    input clk,
    input running,
    input done,
    input [63:0] cycle,
    input [63:0] beats,
    input [63:0] frame,
    input [31:0] seed,
    input [31:0] stall,
    input [31:0] hold,
    input valid,
    output ready,
    input [WIDTH-1:0] data,
    input last,
    output moves,
    output complete,
    output surplus,
    output reg [63:0] moved,
    output reg [63:0] stalls,
    output reg [63:0] first,
    output reg [63:0] bad_lasts,
    output reg [63:0] bad_last,
    output reg [63:0] broken_valid
);
    reg [63:0] position = 0;
    reg waiting = 0;
    reg [WIDTH-1:0] waiting_data = 0;
    reg [8*32-1:0] name;
    integer file, cycles;
    wire pause;

    pauses #(.FIRST(1)) pauses (
        .clk(clk), .running(running), .seed(seed), .stall(stall), .hold(hold), .pause(pause)
    );

    assign ready = !pause;
    assign moves = running && valid && ready;
    assign complete = moved >= beats;
    assign surplus = moved > beats + DRAIN;

    initial begin
        moved = 0;
        stalls = 0;
        first = 0;
        bad_lasts = 0;
        bad_last = 0;
        broken_valid = 0;
        $sformat(name, "sink_%0d.hex", INDEX);
        file = $fopen(name, "w");
        $sformat(name, "sink_%0d.cycles", INDEX);
        cycles = $fopen(name, "w");
    end

    always @(posedge clk) if (running) begin
        if (valid && !ready) stalls <= stalls + 1;

        if (waiting && !(valid && data === waiting_data)) broken_valid <= 1;
        waiting <= valid && !ready;
        waiting_data <= data;

        if (moves) begin
            $fwrite(file, "%h\n", data);
            if (moved == 0) first <= cycle;
            if (last !== (position == frame - 1)) begin
                if (bad_lasts == 0) bad_last <= moved;
                bad_lasts <= bad_lasts + 1;
            end
            if (position == frame - 1) begin
                $fwrite(cycles, "%0d\n", cycle);
                $fflush(cycles);
            end
            position <= position == frame - 1 ? 0 : position + 1;
            moved <= moved + 1;
        end
    end

    always @(posedge done) begin
        $fclose(file);
        $fclose(cycles);
    end
endmodule

// Writes every beat that moves on one stream to `tap_INDEX.hex`.
module tap #(
    parameter WIDTH = 8,
    parameter INDEX = 0
) (
    input clk,
    input running,
    input done,
    input [63:0] beats,
    input valid,
    input ready,
    input [WIDTH-1:0] payload,
    output moves,
    output complete
);
    reg [63:0] count = 0;
    reg [8*32-1:0] name;
    integer file;

    assign moves = running && valid && ready;
    assign complete = count >= beats;

    initial begin
        $sformat(name, "tap_%0d.hex", INDEX);
        file = $fopen(name, "w");
    end

    always @(posedge clk) if (moves) begin
        $fwrite(file, "%h\n", payload);
        count <= count + 1;
    end

    always @(posedge done) $fclose(file);
endmodule

// Counts what a stage does in each span: beats at its first output, cycles in which an output waits
// to be taken, and cycles in which an input waits for a beat. `probe_INDEX.counts` has the three.
module probe #(
    parameter INDEX = 0
) (
    input clk,
    input running,
    input done,
    input span_ends,
    input moves,
    input stalls,
    input starves
);
    reg [31:0] moved = 0, stalled = 0, starved = 0;
    reg [8*32-1:0] name;
    integer file;

    initial begin
        $sformat(name, "probe_%0d.counts", INDEX);
        file = $fopen(name, "w");
    end

    always @(posedge clk) if (running) begin
        if (span_ends)
            $fwrite(file, "%0d %0d %0d\n", moved + moves, stalled + stalls, starved + starves);
        moved <= span_ends ? 0 : moved + moves;
        stalled <= span_ends ? 0 : stalled + stalls;
        starved <= span_ends ? 0 : starved + starves;
    end

    always @(posedge done) begin
        $fwrite(file, "%0d %0d %0d\n", moved, stalled, starved);
        $fclose(file);
    end
endmodule

// Counts the beats in a queue: `level_INDEX.counts` has the most in each span, and the sum over its
// cycles.
module level #(
    parameter INDEX = 0
) (
    input clk,
    input running,
    input done,
    input span_ends,
    input enters,
    input leaves
);
    reg [31:0] beats = 0, most = 0;
    reg [63:0] sum = 0;
    reg [8*32-1:0] name;
    integer file;

    wire [31:0] peak = beats > most ? beats : most;

    initial begin
        $sformat(name, "level_%0d.counts", INDEX);
        file = $fopen(name, "w");
    end

    always @(posedge clk) if (running) begin
        if (span_ends) $fwrite(file, "%0d %0d\n", peak, sum + beats);
        most <= span_ends ? 0 : peak;
        sum <= span_ends ? 0 : sum + beats;
        beats <= beats + enters - leaves;
    end

    always @(posedge done) begin
        $fwrite(file, "%0d %0d\n", most, sum);
        $fclose(file);
    end
endmodule

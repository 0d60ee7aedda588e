// One accelerator between a source that reads beats from a file and a sink that writes them to one.
//
// The simulator runs in a folder that holds `source.hex`, one beat a line; it leaves there
//
//   sink.hex    every beat taken from m_axis, one a line
//   tap_N.hex   every beat that moved at tap N (`taps.svh` holds the taps; it may be empty)
//   frames.txt  `i CYCLE` for the first beat in of a frame, `o CYCLE` for its last beat out
//
// Plusargs: source_beats, sink_beats (of the whole run); source_frame, sink_frame (beats of one
// frame); stall (of 2^32: the chance that a stream stalls), hold (a power of two: a stall or a run
// is held for 1 to that many cycles); source_seed, sink_seed (not 0); watchdog (quiet cycles).
//
// Python raises `start` and waits for `done`. Between the two it has nothing to do: that is what
// makes the simulation fast.

`timescale 1ns / 1ns

module bench #(
    parameter SOURCE_WIDTH = 8,
    parameter SINK_WIDTH = 8,
    parameter TAPS = 0
);
    // Long enough for a surplus beat behind the last one to show itself.
    localparam DRAIN = 64;
    // Python starts the run within a few cycles, or it is not there.
    localparam PATIENCE = 10000;

    reg clk = 0, rst = 1, start = 0, done = 0;
    always #1 clk = !clk;

    // --- the run, as told by the plusargs --------------------------------------------------------

    reg [63:0] source_beats = 0, sink_beats = 0, source_frame = 1, sink_frame = 1, watchdog = 1000;
    reg [31:0] stall = 0, hold = 1, source_random = 1, sink_random = 2;
    integer source_file, sink_file, frame_file, found;

    initial begin
        found = $value$plusargs("source_beats=%d", source_beats);
        found = $value$plusargs("sink_beats=%d", sink_beats);
        found = $value$plusargs("source_frame=%d", source_frame);
        found = $value$plusargs("sink_frame=%d", sink_frame);
        found = $value$plusargs("stall=%d", stall);
        found = $value$plusargs("hold=%d", hold);
        found = $value$plusargs("source_seed=%d", source_random);
        found = $value$plusargs("sink_seed=%d", sink_random);
        found = $value$plusargs("watchdog=%d", watchdog);
        source_file = $fopen("source.hex", "r");
        sink_file = $fopen("sink.hex", "w");
        frame_file = $fopen("frames.txt", "w");
`ifdef WAVES
        $dumpfile("waves");
        $dumpvars(0, bench);
`endif
    end

    function [31:0] xorshift(input [31:0] x);
        begin
            xorshift = x ^ (x << 13);
            xorshift = xorshift ^ (xorshift >> 17);
            xorshift = xorshift ^ (xorshift << 5);
        end
    endfunction

    // How many cycles more to hold what is drawn: short ones are likelier than long ones.
    function [31:0] held(input [31:0] x);
        held = ((x >> 3) & (x >> 17)) & (hold - 1);
    endfunction

    // --- the accelerator -------------------------------------------------------------------------

    reg [SOURCE_WIDTH-1:0] s_data = 0, next_beat;
    reg s_valid = 0, s_last = 0, m_ready = 0;
    wire [SINK_WIDTH-1:0] m_data;
    wire s_ready, m_valid, m_last;

    accelerator dut (
        .clk(clk), .rst(rst),
        .s_axis_tdata(s_data), .s_axis_tvalid(s_valid), .s_axis_tready(s_ready), .s_axis_tlast(s_last),
        .m_axis_tdata(m_data), .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tlast(m_last)
    );

    wire running = start && !done;
    wire s_move = running && s_valid && s_ready;
    wire m_move = running && m_valid && m_ready;

    reg [63:0] cycle = 0, quiet = 0;
    reg [63:0] beats_read = 0, beats_in = 0, beats_out = 0, stalls_in = 0, stalls_out = 0;
    reg [63:0] read_position = 0, in_position = 0, out_position = 0;
    reg [63:0] bad_lasts = 0, bad_last = 0;
    reg broken_valid = 0, waiting = 0;
    reg [SINK_WIDTH-1:0] waiting_data = 0;
    reg [31:0] source_hold = 0, sink_hold = 0;
    reg source_stalls = 0, sink_stalls = 0;

    // --- the source: presents a beat until it is taken, and garbage while it presents none -------

    always @(posedge clk) if (running) begin
        source_random <= xorshift(source_random);
        if (source_hold == 0) begin
            source_stalls <= source_random < stall;
            source_hold <= held(source_random);
        end else
            source_hold <= source_hold - 1;

        if (!s_valid || s_ready) begin
            if (beats_read == source_beats || source_stalls) begin
                s_valid <= 0;
                s_data <= ~s_data;
                s_last <= !s_last;
                if (beats_read != source_beats) stalls_in <= stalls_in + 1;
            end else begin
                found = $fscanf(source_file, "%h", next_beat);
                s_valid <= 1;
                s_data <= next_beat;
                s_last <= read_position == source_frame - 1;
                read_position <= read_position == source_frame - 1 ? 0 : read_position + 1;
                beats_read <= beats_read + 1;
            end
        end

        if (s_move) begin
            if (in_position == 0) $fwrite(frame_file, "i %0d\n", cycle);
            in_position <= in_position == source_frame - 1 ? 0 : in_position + 1;
            beats_in <= beats_in + 1;
        end
    end

    // --- the sink: also checks that a beat, once presented, stays as it is until it is taken -----

    always @(posedge clk) if (running) begin
        sink_random <= xorshift(sink_random);
        if (sink_hold == 0) begin
            m_ready <= !(sink_random < stall);
            sink_hold <= held(sink_random);
        end else
            sink_hold <= sink_hold - 1;
        if (m_valid && !m_ready) stalls_out <= stalls_out + 1;

        if (waiting && !(m_valid && m_data === waiting_data)) broken_valid <= 1;
        waiting <= m_valid && !m_ready;
        waiting_data <= m_data;

        if (m_move) begin
            $fwrite(sink_file, "%h\n", m_data);
            if (m_last !== (out_position == sink_frame - 1)) begin
                if (bad_lasts == 0) bad_last <= beats_out;
                bad_lasts <= bad_lasts + 1;
            end
            if (out_position == sink_frame - 1) begin
                $fwrite(frame_file, "o %0d\n", cycle);
                $fflush(frame_file);
            end
            out_position <= out_position == sink_frame - 1 ? 0 : out_position + 1;
            beats_out <= beats_out + 1;
        end
    end

    // --- the taps, and the end -------------------------------------------------------------------

    wire [TAPS:0] tap_moves, tap_complete;
    assign tap_moves[TAPS] = s_move | m_move;
    assign tap_complete[TAPS] = beats_in == source_beats && beats_out >= sink_beats;

`include "taps.svh"

    reg [31:0] unstarted = 0;
    always @(posedge clk) if (!start) begin
        unstarted <= unstarted + 1;
        if (unstarted == PATIENCE) $finish;
    end

    always @(posedge clk) if (running) begin
        if (quiet >= watchdog || (&tap_complete && quiet >= DRAIN)
                || beats_out > sink_beats + DRAIN) begin
            $fclose(sink_file);
            $fclose(frame_file);
            done <= 1;
        end else begin
            cycle <= cycle + 1;
            quiet <= |tap_moves ? 0 : quiet + 1;
        end
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

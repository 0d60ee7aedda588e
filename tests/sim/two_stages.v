// Adds one to every element, twice: two registered stages that take and give a beat a cycle.
//
// LANES elements of BITS bits a beat, FRAME beats a frame. Defines that break it, one way each:
// DROPS (a stalled beat is overwritten), STOPS (after 20 beats), WRONG (the first stage, once in its
// 20th beat), RETRACTS (valid waits for ready), REPEATS (the last beat of 40), LAST (tlast never).
// SLOW: the first stage takes a beat every third cycle only; SETTLES: only the first 30 beats.

module add_one #(parameter WRONG = 0) (
    input clk, input rst,
    input [`LANES*`BITS-1:0] i__payload, input i__valid, output i__ready,
    output reg [`LANES*`BITS-1:0] o__payload, output reg o__valid, input o__ready, input open
);
    reg [31:0] count;
    integer lane;
`ifdef DROPS
    assign i__ready = open;
`else
    assign i__ready = open && (!o__valid || o__ready);
`endif
    always @(posedge clk) begin
        if (o__ready) o__valid <= 0;
        if (i__valid && i__ready) begin
            for (lane = 0; lane < `LANES; lane = lane + 1)
                o__payload[lane*`BITS +: `BITS] <= i__payload[lane*`BITS +: `BITS] + 1'b1;
            if (WRONG && count == 20) o__payload[0] <= i__payload[0];
            o__valid <= 1;
            count <= count + 1;
        end
        if (rst) begin
            o__valid <= 0;
            count <= 0;
        end
    end
endmodule

module accelerator (
    input clk, input rst,
    input [`LANES*`BITS-1:0] s_axis_tdata, input s_axis_tvalid, output s_axis_tready, input s_axis_tlast,
    output [`LANES*`BITS-1:0] m_axis_tdata, output m_axis_tvalid, input m_axis_tready, output m_axis_tlast
);
    wire [`LANES*`BITS-1:0] middle, result;
    wire middle_valid, middle_ready, result_valid, result_ready;
    reg [31:0] position, count;
    reg [1:0] phase;
    reg over;

`ifdef SLOW
    wire open = phase == 0;
`elsif SETTLES
    wire open = phase == 0 || count >= 30;
`elsif STOPS
    wire open = count < 20;
`else
    wire open = 1;
`endif
`ifdef WRONG
    localparam WRONG = 1;
`else
    localparam WRONG = 0;
`endif

    add_one #(.WRONG(WRONG)) first (
        .clk(clk), .rst(rst), .i__payload(s_axis_tdata), .i__valid(s_axis_tvalid), .i__ready(s_axis_tready),
        .o__payload(middle), .o__valid(middle_valid), .o__ready(middle_ready), .open(open));
    add_one second (
        .clk(clk), .rst(rst), .i__payload(middle), .i__valid(middle_valid), .i__ready(middle_ready),
        .o__payload(result), .o__valid(result_valid), .o__ready(result_ready), .open(1'b1));

`ifdef REPEATS
    wire repeats = count == 39 && !over;
`else
    wire repeats = 0;
`endif
    assign m_axis_tdata = result;
    assign result_ready = m_axis_tready && !repeats;
`ifdef RETRACTS
    assign m_axis_tvalid = result_valid && (m_axis_tready || !phase[0]);
`else
    assign m_axis_tvalid = result_valid;
`endif
`ifdef LAST
    assign m_axis_tlast = 0;
`else
    assign m_axis_tlast = position == `FRAME - 1;
`endif

    always @(posedge clk) begin
        phase <= phase == 2 ? 0 : phase + 1;
        if (m_axis_tvalid && m_axis_tready) begin
            position <= m_axis_tlast ? 0 : position + 1;
            over <= repeats;
            if (!repeats) count <= count + 1;
        end
        if (rst) begin
            phase <= 0;
            position <= 0;
            count <= 0;
            over <= 0;
        end
    end
endmodule

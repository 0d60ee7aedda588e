// Adds one to the elements of `s_axis_a`, two to those of `s_axis_b`; both leave by ports of their own.
//
// 8-bit elements; `a` has 3 beats a frame of 2 elements, `b` has 5 beats of 1. Defines that break it:
// STOPS (b takes 7 beats and no more), LAST (tlast of b never), WRONG (b once, in its 8th beat).

module lane #(parameter WIDTH = 8, parameter FRAME = 1, parameter PLUS = 1, parameter STOP = 0,
              parameter WRONG = 0, parameter NEVER_LAST = 0) (
    input clk, input rst,
    input [WIDTH-1:0] i_data, input i_valid, output i_ready,
    output reg [WIDTH-1:0] o_data, output reg o_valid, input o_ready, output o_last
);
    reg [31:0] count, position;
    integer at;
    assign i_ready = (STOP == 0 || count < STOP) && (!o_valid || o_ready);
    assign o_last = !NEVER_LAST && position == FRAME - 1;
    always @(posedge clk) begin
        if (o_ready) o_valid <= 0;
        if (o_valid && o_ready) position <= position == FRAME - 1 ? 0 : position + 1;
        if (i_valid && i_ready) begin
            for (at = 0; at < WIDTH; at = at + 8) o_data[at +: 8] <= i_data[at +: 8] + PLUS;
            if (WRONG && count == 7) o_data[0] <= ~i_data[0];
            o_valid <= 1;
            count <= count + 1;
        end
        if (rst) begin
            o_valid <= 0;
            position <= 0;
            count <= 0;
        end
    end
endmodule

module accelerator (
    input clk, input rst,
    input [15:0] s_axis_a_tdata, input s_axis_a_tvalid, output s_axis_a_tready, input s_axis_a_tlast,
    input [7:0] s_axis_b_tdata, input s_axis_b_tvalid, output s_axis_b_tready, input s_axis_b_tlast,
    output [15:0] m_axis_a_tdata, output m_axis_a_tvalid, input m_axis_a_tready, output m_axis_a_tlast,
    output [7:0] m_axis_b_tdata, output m_axis_b_tvalid, input m_axis_b_tready, output m_axis_b_tlast
);
`ifdef STOPS
    localparam STOP = 7;
`else
    localparam STOP = 0;
`endif
`ifdef WRONG
    localparam WRONG = 1;
`else
    localparam WRONG = 0;
`endif
`ifdef LAST
    localparam NEVER_LAST = 1;
`else
    localparam NEVER_LAST = 0;
`endif
    lane #(.WIDTH(16), .FRAME(3), .PLUS(1)) a (
        .clk(clk), .rst(rst), .i_data(s_axis_a_tdata), .i_valid(s_axis_a_tvalid),
        .i_ready(s_axis_a_tready), .o_data(m_axis_a_tdata), .o_valid(m_axis_a_tvalid),
        .o_ready(m_axis_a_tready), .o_last(m_axis_a_tlast));
    lane #(.WIDTH(8), .FRAME(5), .PLUS(2), .STOP(STOP), .WRONG(WRONG), .NEVER_LAST(NEVER_LAST)) b (
        .clk(clk), .rst(rst), .i_data(s_axis_b_tdata), .i_valid(s_axis_b_tvalid),
        .i_ready(s_axis_b_tready), .o_data(m_axis_b_tdata), .o_valid(m_axis_b_tvalid),
        .o_ready(m_axis_b_tready), .o_last(m_axis_b_tlast));
endmodule

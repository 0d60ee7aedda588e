// SB_MAC16 in the modes that the compiler uses, for simulation.

module SB_MAC16 #(
    parameter NEG_TRIGGER = 0, A_REG = 0, B_REG = 0, C_REG = 0, D_REG = 0,
    parameter TOP_8x8_MULT_REG = 0, BOT_8x8_MULT_REG = 0,
    parameter PIPELINE_16x16_MULT_REG1 = 0, PIPELINE_16x16_MULT_REG2 = 0,
    parameter TOPOUTPUT_SELECT = 0, TOPADDSUB_LOWERINPUT = 0, TOPADDSUB_UPPERINPUT = 0,
    parameter TOPADDSUB_CARRYSELECT = 0, BOTOUTPUT_SELECT = 0, BOTADDSUB_LOWERINPUT = 0,
    parameter BOTADDSUB_UPPERINPUT = 0, BOTADDSUB_CARRYSELECT = 0, MODE_8x8 = 0,
    parameter A_SIGNED = 0, B_SIGNED = 0
) (
    input CLK, CE, input [15:0] A, B, C, D, input AHOLD, BHOLD, CHOLD, DHOLD,
    input IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT, OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT,
    input OHOLDTOP, OHOLDBOT, CI, ACCUMCI, SIGNEXTIN, output [31:0] O, output CO, ACCUMCO, SIGNEXTOUT
);
    reg [15:0] a_held, b_held;
    reg [15:0] top, bottom;
    wire signed [8:0] a1 = {A_SIGNED ? a_held[15] : 1'b0, a_held[15:8]};
    wire signed [8:0] a0 = {A_SIGNED ? a_held[7] : 1'b0, a_held[7:0]};
    wire signed [8:0] b1 = {B_SIGNED ? b_held[15] : 1'b0, b_held[15:8]};
    wire signed [8:0] b0 = {B_SIGNED ? b_held[7] : 1'b0, b_held[7:0]};
    wire signed [16:0] a = {A_SIGNED ? a_held[15] : 1'b0, a_held};
    wire signed [16:0] b = {B_SIGNED ? b_held[15] : 1'b0, b_held};
    always @(posedge CLK) begin
        a_held <= A;
        b_held <= B;
        if (MODE_8x8) begin
            top <= a1 * b1;
            bottom <= a0 * b0;
        end else {top, bottom} <= a * b;
    end
    assign O = {top, bottom};
    assign CO = 1'b0, ACCUMCO = 1'b0, SIGNEXTOUT = 1'b0;
endmodule

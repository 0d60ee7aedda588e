// ECP5's block RAM in the modes that synthesis uses, for simulation.
//
// yosys declares DP16KD without contents, so in netlists for simulation it is called DP16KD_MODEL.
// The RAM is 512 rows of 36 bits; a port of 18, 9, 4, 2 or 1 bits sees a part of a row:
//
//     bit  35      27  26      18  17       9  8        0
//         |  byte 3  |  byte 2   |  byte 1   |  byte 0   |
//
//     AD13..AD5: row, AD4: half, AD3: byte, AD2: nibble, AD1: pair, AD0: bit
//
// Ports of less than 9 bits do not see a byte's ninth. Where 18 or 36 bits are written, AD0.. are
// the enables of their bytes. If A is 36 bits wide, A only writes and B only reads, with words of
// 36 bits at the outputs of both, the low half at A's.
//
// What the chip leaves undefined is made to fail: bits that one port reads while the other writes
// them are inverted, and both writing to one row ends the simulation.

module DP16KD_PORT #(
    parameter WIDTH = 18, REGMODE = "NOREG", WRITEMODE = "NORMAL", RESETMODE = "SYNC",
    parameter [39:0] CSDECODE = "0b000"
) (
    input clk, ce, we, oce, rst, input [2:0] cs, input [13:0] address, input [35:0] data,
    input [35:0] now, output [35:0] mask, next, output [35:0] word
);
    wire [2:0] decode = {CSDECODE[16], CSDECODE[8], CSDECODE[0]};   // the digits' lowest bits
    wire [5:0] place = (WIDTH < 36 && address[4] ? 18 : 0) + (WIDTH < 18 && address[3] ? 9 : 0)
                     + (WIDTH < 9 && address[2] ? 4 : 0) + (WIDTH < 4 && address[1] ? 2 : 0)
                     + (WIDTH < 2 && address[0] ? 1 : 0);
    wire [35:0] bytes = {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}};
    wire [35:0] whole = (36'b1 << WIDTH) - 36'b1;
    wire enable = ce && cs == decode;
    wire write = enable && we;

    assign mask = write ? (WIDTH < 18 ? whole : whole & bytes) << place : 36'b0;
    assign next = (now & ~mask) | ((data << place) & mask);

    reg [35:0] latch = 0, held = 0;
    wire async = rst && RESETMODE == "ASYNC";
    always @(posedge clk, posedge async)
        if (rst) begin
            latch <= 0;
            held <= 0;
        end else begin
            if (enable && !(write && WRITEMODE == "NORMAL"))
                latch <= (write && WRITEMODE == "WRITETHROUGH" ? next : now) >> place;
            if (oce) held <= latch;
        end
    assign word = REGMODE == "OUTREG" ? held : latch;
endmodule

module DP16KD_MODEL #(
    parameter DATA_WIDTH_A = 18, DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG",
    parameter WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL",
    parameter [39:0] CSDECODE_A = "0b000", CSDECODE_B = "0b000",
    parameter CLKAMUX = "CLKA", CLKBMUX = "CLKB",
    parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", GSR = "ENABLED",
    parameter [319:0]
        INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0,
        INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0,
        INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0,
        INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
        INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0,
        INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
        INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0,
        INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
        INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0,
        INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0,
        INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0,
        INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
        INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0
) (
    input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13,
          DIA14, DIA15, DIA16, DIA17,
    input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA0, CSA1, CSA2,
    output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13,
           DOA14, DOA15, DOA16, DOA17,
    input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13,
          DIB14, DIB15, DIB16, DIB17,
    input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB0, CSB1, CSB2,
    output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13,
           DOB14, DOB15, DOB16, DOB17
);
    localparam WIDE = DATA_WIDTH_A == 36;
    wire clk_a = CLKA ^ (CLKAMUX == "INV");
    wire clk_b = CLKB ^ (CLKBMUX == "INV");
    wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3,
        ADA2, ADA1, ADA0};
    wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3,
        ADB2, ADB1, ADB0};
    wire [17:0] in_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
        DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] in_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7,
        DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    wire [35:0] data_a = {in_b, in_a};
    wire [35:0] data_b = {18'b0, in_b};
    wire [35:0] mask_a, mask_b, next_a, next_b, word_a, word_b;

    // Words of 18 bits, each in 20.
    localparam [20479:0] INITIAL = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
        INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32,
        INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C, INITVAL_2B,
        INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24,
        INITVAL_23, INITVAL_22, INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D,
        INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F,
        INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08,
        INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04, INITVAL_03, INITVAL_02, INITVAL_01,
        INITVAL_00};
    reg [35:0] rows [0:511];
    integer n;
    initial
        for (n = 0; n < 512; n = n + 1)
            rows[n] = {INITIAL[40 * n + 20 +: 18], INITIAL[40 * n +: 18]};

    wire [8:0] row_a = address_a[13:5], row_b = address_b[13:5];
    wire same = row_a == row_b;
    wire [35:0] now_a = rows[row_a] ^ (same ? mask_b : 36'b0);
    wire [35:0] now_b = rows[row_b] ^ (same ? mask_a : 36'b0);

    DP16KD_PORT #(
        .WIDTH(DATA_WIDTH_A), .REGMODE(REGMODE_A), .WRITEMODE(WRITEMODE_A),
        .CSDECODE(CSDECODE_A), .RESETMODE(RESETMODE)
    ) port_a (
        .clk(clk_a), .ce(CEA), .we(WEA), .oce(OCEA), .rst(RSTA),
        .cs({CSA2, CSA1, CSA0}), .address(address_a), .data(data_a),
        .now(now_a), .mask(mask_a), .next(next_a), .word(word_a)
    );
    DP16KD_PORT #(
        .WIDTH(DATA_WIDTH_B), .REGMODE(REGMODE_B), .WRITEMODE(WRITEMODE_B),
        .CSDECODE(CSDECODE_B), .RESETMODE(RESETMODE)
    ) port_b (
        .clk(clk_b), .ce(CEB), .we(WEB), .oce(OCEB), .rst(RSTB),
        .cs({CSB2, CSB1, CSB0}), .address(address_b), .data(data_b),
        .now(now_b), .mask(mask_b), .next(next_b), .word(word_b)
    );

    always @(posedge clk_a)
        if (mask_a != 0) begin
            rows[row_a] <= next_a;
            if (same && mask_b != 0) begin
                $display("%m: both ports write to row %d, which is not modelled", row_a);
                $finish;
            end
        end
    always @(posedge clk_b)
        if (mask_b != 0) rows[row_b] <= next_b;

    wire [17:0] out_a = WIDE ? word_b[17:0] : word_a[17:0];
    wire [17:0] out_b = DATA_WIDTH_B == 36 ? word_b[35:18] : word_b[17:0];
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8,
            DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = out_a;
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8,
            DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} = out_b;
endmodule

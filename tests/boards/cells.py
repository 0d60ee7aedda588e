"""Netlists of LUTs, carry cells and registers in yosys' JSON: built and evaluated."""

#: tables of a half: A + B, and (A and B) + (C and D)
PLAIN, MASKED = "1001011010101010", "0111100010001000"
#: nets of the inputs ``i`` of a module
INPUTS = list(range(2, 8))


def carry_cell(halves, cin, cout, inject="NO"):
    """Two bits; each has its table, what is at A to D, and the net of its sum."""
    pins = {"CIN": [cin]}
    outputs, parameters = {"COUT": [cout]}, {}
    for n, (table, inputs, total) in enumerate(halves):
        pins |= {f"{pin}{n}": [bit] for pin, bit in zip("ABCD", inputs, strict=True)}
        outputs[f"S{n}"] = [total]
        parameters |= {f"INIT{n}": table, f"INJECT1_{n}": inject}
    return {
        "type": "CCU2C",
        "attributes": {},
        "parameters": parameters,
        "port_directions": dict.fromkeys(pins, "input") | dict.fromkeys(outputs, "output"),
        "connections": pins | outputs,
    }


def module(cells, outputs):
    return {
        "modules": {
            "top": {
                "ports": {
                    "i": {"direction": "input", "bits": INPUTS},
                    "o": {"direction": "output", "bits": outputs},
                },
                "cells": cells,
            }
        }
    }


def outputs(netlist, values, floating=0):
    """The outputs ``o`` for the values of the inputs ``i``, by the cells' definitions in the
    vendor's library; what is not connected has the value ``floating``.
    """
    top = netlist["modules"]["top"]
    known = {"0": 0, "1": 1, "x": floating} | dict(
        zip(top["ports"]["i"]["bits"], values, strict=True)
    )

    def table(init, bits):
        return int(init, 2) >> sum(bit << n for n, bit in enumerate(bits)) & 1

    def settle(each):
        pins = {pin: bits[0] for pin, bits in each["connections"].items()}
        if each["type"] == "LUT4":
            known[pins["Z"]] = table(each["parameters"]["INIT"], [known[pins[p]] for p in "ABCD"])
            return
        link = known[pins["CIN"]]
        for half in "01":
            bits = [known[pins[pin + half]] for pin in "ABCD"]
            init = each["parameters"][f"INIT{half}"]
            differ, both = table(init, bits), table(init[-4:], bits[:2])
            known[pins[f"S{half}"]] = differ ^ link
            link = link if differ else both
        known[pins["COUT"]] = link
        known["x"] = floating

    waiting = list(top["cells"].values())
    while waiting:
        ready = [
            each
            for each in waiting
            if all(
                bits[0] in known
                for port, bits in each["connections"].items()
                if each["port_directions"][port] == "input"
            )
        ]
        assert ready
        for each in ready:
            settle(each)
        waiting = [each for each in waiting if each not in ready]
    return [known[bit] for bit in top["ports"]["o"]["bits"]]

"""Evaluates netlists of LUTs and carry cells in yosys' JSON."""


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

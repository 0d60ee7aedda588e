"""Check a node against ONNX's own description of its operator, before anything reads it."""

from math import isfinite, isnan
from typing import Any

import onnx
from onnx import defs, helper

from .. import limits
from ..errors import ModelError

__all__ = ["CAST_OPSET", "SCALING", "check", "inferable"]

Kind = onnx.AttributeProto.AttributeType

# Attributes that may be infinite: bounds and fill values.
INFINITE = frozenset({("Clip", "min"), ("Clip", "max"), ("Pad", "value")})
# Attributes that QuantLab adds to standard operators: widths, which change no number.
HINTS = frozenset({"weight_bits", "bias_bits", "mult_bits", "add_bits", "out_bits", "in_bits"})
# Attributes with which QuantLab's Add scales its operands and its sum, which
# dialects.integer_graphs reads.
SCALING = tuple(
    f"{which}_{name}"
    for which in ("in1", "in2", "out")
    for name in ("rq", "mul", "add", "shift", "n_levels")
)
# The largest number of inputs or outputs in the schema of a variadic operator.
MANY = (1 << 31) - 1


# Operators of ai.onnx.ml that give a number for each number.
KEEPING = ("Binarizer", "Imputer", "Normalizer", "Scaler")
# The version of what stands for them.
CAST_OPSET = 13


def inferable(proto: onnx.NodeProto) -> onnx.NodeProto:
    """The node with a type and a shape that ONNX infers, which it does not for ai.onnx.ml."""
    if proto.domain != "ai.onnx.ml" or proto.op_type not in KEEPING:
        return proto
    to = onnx.TensorProto.FLOAT
    return helper.make_node("Cast", proto.input[:1], proto.output[:1], name=proto.name, to=to)


def check(proto: onnx.NodeProto, name: str, opset: int) -> None:
    """Raises ModelError where attributes, inputs or outputs of ``proto`` break its operator's
    schema at ``opset``. Operators that ONNX does not know are left to the importer.
    """
    if len(proto.input) > limits.OPERANDS:
        raise ModelError(
            f"{name}: has {len(proto.input)} inputs; accepted: at most {limits.OPERANDS}; join "
            "them in several nodes"
        )
    for attribute in proto.attribute:
        _check_value(attribute, name, proto.op_type)
    if proto.domain not in ("", "ai.onnx"):
        return
    try:
        schema = defs.get_schema(proto.op_type, opset, "")
    except defs.SchemaError:
        return
    _check_attributes(proto, name, schema)
    _check_count(name, "inputs", len(proto.input), schema.min_input, schema.max_input)
    _check_count(name, "outputs", len(proto.output), schema.min_output, schema.max_output)
    for number, formal in enumerate(schema.inputs[: len(proto.input)]):
        if formal.option == defs.OpSchema.FormalParameterOption.Single and not proto.input[number]:
            raise ModelError(
                f"{name}: lacks its input {number} ({formal.name}); accepted: a node with it; "
                "export the network again"
            )


def _check_value(attribute: onnx.AttributeProto, name: str, op: str) -> None:
    """Refuse NaN, infinity where a finite number is needed, and attributes by reference."""
    if attribute.ref_attr_name:
        raise ModelError(
            f"{name}: attribute {attribute.name} refers to a function's attribute "
            f"{attribute.ref_attr_name}; accepted: a value; export the network again"
        )
    if op == "Constant":
        return
    infinite = (op, attribute.name) in INFINITE
    for number in (*attribute.floats, attribute.f):
        if isnan(number) or not (infinite or isfinite(number)):
            raise ModelError(
                f"{name}: attribute {attribute.name} is {number}; accepted: a finite number; "
                "export the network again"
            )


def _check_attributes(proto: onnx.NodeProto, name: str, schema: defs.OpSchema) -> None:
    """Refuse attributes that are unknown, of another type, given twice, or missing."""
    seen: set[str] = set()
    for attribute in proto.attribute:
        known = schema.attributes.get(attribute.name)
        if known is None and attribute.name in (SCALING if schema.name == "Add" else ()):
            continue
        if known is None and attribute.name in HINTS:
            continue
        if known is None:
            raise ModelError(
                f"{name}: has an attribute {attribute.name}, which {schema.name} does not have at "
                f"opset {schema.since_version}; accepted: "
                f"{', '.join(sorted(schema.attributes)) or 'none'}; check the model with "
                "onnx.checker"
            )
        if attribute.name in seen:
            raise ModelError(
                f"{name}: has the attribute {attribute.name} twice; accepted: each once; check "
                "the model with onnx.checker"
            )
        seen.add(attribute.name)
        if int(attribute.type) != _number(known):
            raise ModelError(
                f"{name}: attribute {attribute.name} is of type {_kind(attribute.type)}; "
                f"accepted: {_kind(_number(known))}; check the model with onnx.checker"
            )
    missing = [a.name for a in schema.attributes.values() if a.required and a.name not in seen]
    if missing:
        raise ModelError(
            f"{name}: lacks the attribute {', '.join(missing)}; accepted: a node with it; check "
            "the model with onnx.checker"
        )


def _number(attribute: defs.OpSchema.Attribute) -> int:
    """The type of a schema's attribute, numbered as in the protocol buffer."""
    kind: Any = attribute.type  # the stubs do not say that it is an enumeration
    return int(kind.value)


def _kind(number: int) -> str:
    return Kind.Name(number) if number in Kind.values() else f"number {number}"


def _check_count(name: str, what: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        accepted = f"{least} or more" if most >= MANY else f"{least} to {most}"
        raise ModelError(
            f"{name}: has {found} {what}, which the operator does not allow; accepted: "
            f"{accepted if least != most else least}; check the model with onnx.checker"
        )

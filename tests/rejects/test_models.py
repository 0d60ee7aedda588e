"""Models that can not be compiled: one message each, with the place and the way out."""

import numpy as np
import onnx
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node
FLOAT = TensorProto.FLOAT
W = np.ones((2, 3, 1, 1), np.float32)


def info(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


@pytest.fixture
def save(tmp_path):
    """Write a model; returns its path."""

    def write(nodes, inputs=None, outputs=None, opset=17, domains=(), **constants):
        graph = helper.make_graph(
            nodes,
            "net",
            inputs or [info("x", ["N", 3, 4, 4])],
            outputs or [info("y", None)],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
        )
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    return write


def message(path):
    with pytest.raises(ModelError) as caught:
        load(path)
    return str(caught.value)


# -- files -----------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    assert message(tmp_path / "no.onnx") == f"{tmp_path / 'no.onnx'}: no such file"


def test_folder(tmp_path):
    assert message(tmp_path) == f"{tmp_path}: is a folder; give the .onnx file inside it"


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is a text file\n", b"\x89PNG\r\n\x1a\n" * 9, b"PK\x03\x04" + bytes(40)],
    ids=["empty", "text", "png", "zip"],
)
def test_not_an_onnx_file(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert f"{path}: is not an ONNX model" in message(path)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9, 0.99])
def test_truncated_file(save, fraction):
    path = save([N("Conv", ["x", "w"], ["y"])], w=np.ones((64, 3, 3, 3), np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    assert "is cut short or damaged" in message(path)


MIXED = {
    "transposed": (
        (8, 16),
        [N("Transpose", ["x"], ["t"], perm=[1, 0]), N("MatMul", ["t", "g"], ["y"], name="n")],
        "n (MatMul): its input has shape [16, 8] and mixes elements of the 8 samples",
    ),
    "transposed at the end": (
        (2, 8),
        [N("MatMul", ["x", "g"], ["m"]), N("Transpose", ["m"], ["y"], perm=[1, 0])],
        "y: its input has shape [5, 2] and mixes elements of the 2 samples",
    ),
    "transposed alone": (
        (2, 8),
        [N("Relu", ["x"], ["r"]), N("Transpose", ["r"], ["y"], perm=[1, 0])],
        "y: its input has shape [8, 2] and mixes elements of the 2 samples",
    ),
    "flattened": (
        (2, 4),
        [N("Flatten", ["x"], ["f"], axis=0), N("MatMul", ["f", "g"], ["y"], name="n")],
        "n (MatMul): its input has shape [1, 8] and mixes elements of the 2 samples",
    ),
    "flattened inside": (
        (2, 8),
        [
            N("MatMul", ["x", "g"], ["m"]),
            N("Flatten", ["m"], ["f"], axis=0),
            N("MatMul", ["f", "h"], ["y"], name="n"),
        ],
        "n (MatMul): its input has shape [1, 10] and mixes elements of the 2 samples",
    ),
    "an image without a batch axis": (
        (3, 6, 6),
        [
            N("Unsqueeze", ["x", "zero"], ["u"]),
            N("Conv", ["u", "w"], ["y"], name="n"),
        ],
        "n (Conv): its input has shape [1, 3, 6, 6] and mixes elements of the 3 samples: the first "
        "axis of the network's input, of size 3, is taken as the batch; accepted: an input whose "
        "first axis is the batch, which every node keeps first; export the network with a batch",
    ),
    "a vector without a batch axis": (
        (8, 8),
        [N("Reshape", ["x", "flat"], ["f"]), N("MatMul", ["f", "long"], ["y"], name="n")],
        "n (MatMul): its input has shape [1, 64] and mixes elements of the 8 samples",
    ),
    "pooled": (
        (2, 3, 4, 4),
        [
            N("Transpose", ["x"], ["t"], perm=[1, 0, 2, 3]),
            N("GlobalAveragePool", ["t"], ["y"], name="n"),
        ],
        "n (GlobalAveragePool): its input has shape [3, 2, 4, 4] and mixes elements of the 2",
    ),
    "the classes are the samples": (
        (2, 3, 4, 4),
        [
            N("Conv", ["x", "w"], ["c"]),
            N("Transpose", ["c"], ["t"], perm=[1, 0, 2, 3]),
            N("ArgMax", ["t"], ["y"], axis=1),
        ],
        "y: its input has shape [2, 2, 4, 4] and mixes elements of the 2 samples",
    ),
    "concatenated": (
        (2, 4),
        [
            N("Transpose", ["x"], ["t"], perm=[1, 0]),
            N("Concat", ["t", "t"], ["c"], axis=1, name="n"),
            N("Relu", ["c"], ["y"]),
        ],
        "n (Concat): its input has shape [4, 2] and mixes elements of the 2 samples",
    ),
}


@pytest.mark.parametrize(("shape", "nodes", "expected"), MIXED.values(), ids=MIXED)
def test_samples_of_a_batch_stay_apart(shape, nodes, expected, save):
    path = save(
        nodes,
        [info("x", shape)],
        [info("y", None, TensorProto.INT64 if nodes[-1].op_type == "ArgMax" else FLOAT)],
        g=np.ones((8, 5), np.float32),
        h=np.ones((10, 5), np.float32),
        long=np.ones((64, 5), np.float32),
        w=W,
        zero=np.array([0]),
        flat=np.array([-1, 64]),
    )
    assert expected in message(path)


def test_missing_external_weights(save, tmp_path):
    path = save([N("Conv", ["x", "w"], ["y"])], w=np.ones((64, 3, 3, 3), np.float32))
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").unlink()
    assert "its external weights can not be read" in message(path)


@pytest.mark.parametrize(
    ("opset", "words"),
    [(6, "opset 6 is too old; accepted: 7 to"), (99, "opset 99 is newer than the installed onnx")],
)
def test_opset(save, opset, words):
    assert words in message(save([N("Relu", ["x"], ["y"])], opset=opset))


# -- interface -------------------------------------------------------------------------------------


def test_no_input(save):
    path = save(
        [N("Relu", ["x"], ["y"])], inputs=[info("w", [1, 4])], x=np.ones((1, 4), np.float32)
    )
    assert "the output y does not depend on the input w" in message(path)


def test_too_many_outputs(save):
    outputs = [f"y{n}" for n in range(65)]
    path = save(
        [N("Relu", ["x"], [name]) for name in outputs],
        outputs=[info(name, None) for name in outputs],
    )
    assert "the model has 65 outputs; accepted: 1 to 64; cut the model with" in message(path)


def test_dimensions_that_vary(save):
    path = save([N("Relu", ["x"], ["y"])], inputs=[info("x", ["N", 3, "height", None])])
    text = message(path)
    assert "x: axis 2 (height), axis 3 (?) of the input can vary; accepted: only the batch" in text
    assert "onnxsim" in text


def test_input_without_shape(save):
    assert "x: the input has no shape" in message(
        save([N("Relu", ["x"], ["y"])], inputs=[info("x", None)])
    )


def test_input_of_one_axis(save):
    assert "has one axis and so no batch" in message(
        save([N("Relu", ["x"], ["y"])], inputs=[info("x", [8])])
    )


def test_input_of_another_type(save):
    path = save(
        [N("Relu", ["x"], ["y"])],
        inputs=[info("x", [1, 4], TensorProto.DOUBLE)],
        outputs=[info("y", None, TensorProto.DOUBLE)],
    )
    assert "x: is DOUBLE; accepted: float32, int8, uint8" in message(path)


def test_output_that_does_not_depend_on_the_input(save):
    path = save([N("Relu", ["k"], ["y"])], k=np.ones(3, np.float32))
    assert "the output y does not depend on the input x" in message(path)


def test_network_that_computes_nothing(save):
    assert "y: the network computes nothing" in message(save([N("Flatten", ["x"], ["y"])]))


# -- operators -------------------------------------------------------------------------------------


def test_all_unsupported_operators_are_listed_at_once(save):
    nodes = [
        N("Sin", ["x"], ["a"], name="wave"),
        N("Relu", ["a"], ["b"]),
        N("Erf", ["b"], ["c"]),
        N("Special", ["c"], ["y"], name="own", domain="my.ops"),
    ]
    text = message(save(nodes, domains=["my.ops"]))
    assert (
        "3 nodes not supported: wave (Sin), c (Erf), own (my.ops::Special); accepted: Add, " in text
    )
    assert "Conv, " in text


OPERATORS = {
    "weights computed at run time": (
        [N("Conv", ["x", "x"], ["y"], name="n")],
        "n (Conv): its weight is computed at run time; accepted: a constant weight",
    ),
    "two activations multiplied": (
        [N("Sigmoid", ["x"], ["s"]), N("Mul", ["x", "s"], ["y"], name="n")],
        "n (Mul): multiplies two activations; accepted: a constant factor",
    ),
    "broadcast between activations": (
        [N("GlobalAveragePool", ["x"], ["g"]), N("Add", ["x", "g"], ["y"], name="n")],
        "n (Add): adds tensors of shapes [1, 3, 4, 4] and [1, 3, 1, 1]",
    ),
    "constant map": (
        [N("Add", ["x", "map"], ["y"], name="n")],
        "n (Add): the constant differs from pixel to pixel; accepted: one number, or one a channel",
    ),
    "constant on the left": (
        [N("MatMul", ["square", "x"], ["y"], name="n")],
        "n (MatMul): its left operand is the constant; accepted: input @ constant",
    ),
    "transposed input": (
        [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "square"], ["y"], name="n", transA=1)],
        "n (Gemm): transA=1; accepted: transA=0",
    ),
    "wrong number of features": (
        [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "square"], ["y"], name="n")],
        "n (Gemm): its weight has shape [4, 4] (outputs, inputs), but the input has 48 features",
    ),
    "wrong number of channels": (
        [N("Conv", ["x", "w"], ["y"], name="n", group=3)],
        "n (Conv): its weight has 3 input channels in 3 groups, but the input has 3",
    ),
    "window larger than the map": (
        [N("MaxPool", ["x"], ["y"], name="n", kernel_shape=[9, 9])],
        "n (MaxPool): a window of 9x9 is larger than the padded input of 4x4",
    ),
    "reflecting pad": (
        [N("Pad", ["x", "pads"], ["y"], name="n", mode="reflect")],
        "n (Pad): mode reflect; accepted: constant",
    ),
    "cropping pad": (
        [N("Pad", ["x", "crop"], ["y"], name="n")],
        "n (Pad): pads [[0, 0, -1, 0], [0, 0, 0, 0]]; accepted: none below 0, none on the batch",
    ),
    "a pad that is no number": (
        [N("Pad", ["x", "border", "never"], ["p"], name="n"), N("Relu", ["p"], ["y"])],
        "n: pads with -inf; accepted: a finite number, or -inf before a MaxPool that alone reads",
    ),
    "a window of nothing but padding": (
        [
            N("Pad", ["x", "border", "never"], ["p"], name="n"),
            N("MaxPool", ["p"], ["y"], kernel_shape=[1, 1]),
        ],
        "n: pads with -inf; accepted: a finite number, or -inf before a MaxPool that alone reads",
    ),
    "softmax inside": (
        [N("Softmax", ["x"], ["s"], axis=1), N("Conv", ["s", "w"], ["y"], name="n")],
        "n (Conv): follows Softmax or ArgMax; accepted: those only as the network's last operators",
    ),
    "mean over channels": (
        [N("Conv", ["x", "w"], ["c"]), N("ReduceMean", ["c"], ["y"], name="n", axes=[1])],
        "n (ReduceMean): reduces axes [1] of a tensor of shape [1, 2, 4, 4], which are not its",
    ),
    "slice": (
        [N("Relu", ["x"], ["r"]), N("Gather", ["r", "two"], ["y"], name="n", axis=1)],
        "n (Gather): takes 32 of 48 elements; accepted: all of them",
    ),
    "indices of max pool": (
        [N("MaxPool", ["x"], ["y", "i"], name="n", kernel_shape=[2, 2])],
        "n (MaxPool): gives indices too; accepted: values only",
    ),
    "concat with a constant": (
        [N("Concat", ["x", "w4"], ["y"], name="n", axis=1)],
        "n (Concat): concatenates a constant; accepted: tensors computed from the input",
    ),
    "slopes": (
        [N("PRelu", ["x", "slopes"], ["y"], name="n")],
        "n (PRelu): has 3 different slopes; accepted: one for all channels",
    ),
    "reshape that does not fit": (
        [N("Reshape", ["x", "five"], ["f"], name="n"), N("Relu", ["f"], ["y"])],
        "n (Reshape): does not fit its operands of shape [1, 3, 4, 4], [2]",
    ),
    "cast to integers": (
        [N("Relu", ["x"], ["r"]), N("Cast", ["r"], ["y"], name="n", to=TensorProto.INT32)],
        "n (Cast): casts between floats and integers inside the network",
    ),
    "division by zero": (
        [N("Div", ["x", "nothing"], ["y"], name="n")],
        "n (Div): divides by zero; accepted: a divisor without zeros",
    ),
    "empty clip": (
        [N("Clip", ["x", "one", "nothing"], ["y"], name="n")],
        "n (Clip): clips to 1 .. 0; accepted: lower bound <= upper bound",
    ),
    "tensor that nothing computes": (
        [N("Add", ["x", "ghost"], ["y"], name="n")],
        "n (Add): reads ghost, which no earlier node computes",
    ),
    "too few inputs": (
        [N("Conv", ["x"], ["y"], name="n")],
        "n (Conv): has 1 inputs, which the operator does not allow",
    ),
}
CONSTANTS = {
    "w": W,
    "square": np.ones((4, 4), np.float32),
    "map": np.arange(16, dtype=np.float32).reshape(4, 4),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "border": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "never": np.float32(-np.inf),
    "crop": np.array([0, 0, -1, 0, 0, 0, 0, 0]),
    "two": np.array([0, 1]),
    "w4": np.ones((1, 1, 4, 4), np.float32),
    "five": np.array([5, -1]),
    "slopes": np.float32([[[0.1]], [[0.2]], [[0.3]]]),
    "nothing": np.float32(0),
    "one": np.float32(1),
}


@pytest.mark.parametrize(("nodes", "words"), OPERATORS.values(), ids=OPERATORS)
def test_operator(save, nodes, words):
    assert words in message(save(nodes, opset=13, **CONSTANTS))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(save, bad):
    weight = W.copy()
    weight[1, 2] = bad
    text = message(save([N("Conv", ["x", "kernel"], ["y"], name="n")], kernel=weight))
    assert text.startswith(
        "n (Conv): initializer kernel holds 1 NaN or infinite number; accepted: finite"
    )


def test_bias_that_is_not_finite(save):
    text = message(
        save(
            [N("Conv", ["x", "w", "offset"], ["y"], name="n")],
            w=W,
            offset=np.float32([np.nan, np.inf]),
        )
    )
    assert "initializer offset holds 2 NaN or infinite numbers" in text

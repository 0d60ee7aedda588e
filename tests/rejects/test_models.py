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


def test_an_axis_of_no_elements(save):
    path = save([N("Relu", ["x"], ["y"])], inputs=[info("x", ["N", 3, 0, "width"])])
    assert "x: axis 2 has the size 0; accepted: sizes of at least 1" in message(path)


def test_dimensions_that_vary(save):
    path = save([N("Relu", ["x"], ["y"])], inputs=[info("x", ["N", 3, "height", None])])
    text = message(path)
    assert "x: axis 2 (height), axis 3 (?) of the input can vary; accepted: only the batch" in text
    assert "--input-shape x=1,3,96,96" in text


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
        inputs=[info("x", [1, 4], TensorProto.STRING)],
        outputs=[info("y", None, TensorProto.STRING)],
    )
    assert "x: is STRING; accepted: float32, float16, float64, bfloat16, int8" in message(path)


def test_output_that_does_not_depend_on_the_input(save):
    path = save([N("Relu", ["k"], ["y"])], k=np.ones(3, np.float32))
    assert "the output y does not depend on the input x" in message(path)


def test_shifts_by_more_bits_than_the_type_has(save):
    path = save(
        [N("BitShift", ["x", "k"], ["y"], name="n", direction="LEFT")],
        inputs=[info("x", [1, 4], TensorProto.UINT8)],
        outputs=[info("y", None, TensorProto.UINT8)],
        k=np.array([8], np.uint8),
    )
    assert "n (BitShift): shifts u8 by 8 to 8 bits; accepted: from 0 to less" in message(path)


# -- operators -------------------------------------------------------------------------------------


def test_all_unsupported_operators_are_listed_at_once(save):
    nodes = [
        N("Det", ["x"], ["a"], name="wave"),
        N("Relu", ["a"], ["b"]),
        N("NonMaxSuppression", ["b", "b"], ["c"]),
        N("Special", ["c"], ["y"], name="own", domain="my.ops"),
    ]
    text = message(save(nodes, domains=["my.ops"]))
    assert (
        "3 nodes not supported: wave (Det), c (NonMaxSuppression), own (my.ops::Special); "
        "accepted: Abs, A" in text
    )
    assert "Conv, " in text
    assert "Scan, " in text
    assert "Scan::" not in text


OPERATORS = {
    "weights computed at run time": (
        [N("Conv", ["x", "x"], ["y"], name="n")],
        "n (Conv): its weight is computed at run time; accepted: a constant weight",
    ),
    "indices computed at run time": (
        [
            N("Cast", ["x"], ["i"], to=TensorProto.INT64),
            N("GatherElements", ["x", "i"], ["y"], name="n"),
        ],
        "n (GatherElements): its operand is computed at run time; accepted: a constant operand",
    ),
    "a divisor of zero": (
        [N("Div", ["x", "nothing"], ["y"], name="n")],
        "n (Div): divides by zero; accepted: a divisor without zeros",
    ),
    "shapes that do not broadcast": (
        [N("Concat", ["x", "x"], ["g"], axis=1), N("Add", ["x", "g"], ["y"], name="n")],
        "n (Add): its inputs of shapes [1, 3, 4, 4] and [1, 6, 4, 4] do not broadcast",
    ),
    "matrices that do not fit": (
        [N("Concat", ["x", "x"], ["g"], axis=2), N("MatMul", ["x", "g"], ["y"], name="n")],
        "n (MatMul): multiplies tensors of shapes [1, 3, 4, 4] and [1, 3, 8, 4]; accepted: [batch,",
    ),
    "constant that does not broadcast": (
        [N("Add", ["x", "five"], ["y"], name="n")],
        "n (Add): a constant of shape [2] does not broadcast to [1, 3, 4, 4]; accepted: one that",
    ),
    "constant on the left": (
        [N("Flatten", ["x"], ["f"]), N("MatMul", ["square", "f"], ["y"], name="n")],
        "n (MatMul): multiplies a constant of shape [4, 4] by a tensor of shape [1, 48]; accepted:",
    ),
    "transposed input": (
        [N("Gemm", ["x", "square"], ["y"], name="n", transA=1)],
        "n (Gemm): transA=1 makes the batch the features; accepted: transA=0",
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
        [N("Pad", ["x", "pads"], ["y"], name="n", mode="mirror")],
        "n (Pad): mode 'mirror'; accepted: constant, reflect, edge, wrap",
    ),
    "cropping pad": (
        [N("Pad", ["x", "crop"], ["y"], name="n")],
        "n (Pad): pads [[0, 0, -9, 0], [0, 0, 0, 0]]; accepted: pads that leave something",
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
    "hardmax inside": (
        [N("Hardmax", ["x"], ["s"], axis=1), N("Conv", ["s", "w"], ["y"], name="n")],
        "n (Conv): follows Softmax, ArgMax or the like; accepted: those only as the network's last "
        "operators",
    ),
    "slice": (
        [N("Relu", ["x"], ["r"]), N("Gather", ["r", "nobody"], ["y"], name="n", axis=1)],
        "n (Gather): takes none of 48 elements; accepted: at least one",
    ),
    "indices of max pool": (
        [N("MaxPool", ["x"], ["y", "i"], name="n", kernel_shape=[2, 2])],
        "n (MaxPool): gives indices too; accepted: values only",
    ),
    "concat with a constant": (
        [N("Concat", ["x", "ramp"], ["y"], name="n", axis=1)],
        "n (Concat): ramp holds 1 NaN or infinite number; accepted: finite",
    ),
    "reshape that does not fit": (
        [N("Reshape", ["x", "five"], ["f"], name="n"), N("Relu", ["f"], ["y"])],
        "n (Reshape): does not fit its operands of shape [1, 3, 4, 4], [2]",
    ),
    "a mean of integers": (
        [
            N("Cast", ["x"], ["i"], to=TensorProto.INT32),
            N("ReduceMean", ["i"], ["y"], name="n", axes=[1]),
        ],
        "n (ReduceMean): computes with integers of type int32; accepted: ",
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
    "crop": np.array([0, 0, -9, 0, 0, 0, 0, 0]),
    "nobody": np.zeros(0, np.int64),
    "ramp": np.array([np.nan, *range(15)], np.float32).reshape(1, 1, 4, 4),
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


# -- sizes, subgraphs and attributes that no network has -------------------------------------------


HUGE = 1 << 62
NONSENSE = {
    "stride without bound": (
        [N("Conv", ["x", "w"], ["y"], name="n", strides=[HUGE, 1])],
        f"n (Conv): has strides [{HUGE}, 1]; accepted: 2 integers from 1 to 4096",
    ),
    "stride of zero": (
        [N("MaxPool", ["x"], ["y"], name="n", kernel_shape=[2, 2], strides=[0, 2])],
        "n (MaxPool): has strides [0, 2]; accepted: 2 integers from 1",
    ),
    "dilation below zero": (
        [N("Conv", ["x", "w"], ["y"], name="n", dilations=[-1, 1])],
        "n (Conv): has dilations [-1, 1]; accepted: 2 integers from 1",
    ),
    "four pads on one dimension too few": (
        [N("Conv", ["x", "w"], ["y"], name="n", pads=[1, 1])],
        "n (Conv): has pads [1, 1]; accepted: 4 integers from 0",
    ),
    "pads as large as the window": (
        [N("MaxPool", ["x"], ["y"], name="n", kernel_shape=[2, 2], pads=[0, 2, 0, 0])],
        "n (MaxPool): has pads [0, 2, 0, 0] for a window of 2x2; accepted: pads below",
    ),
    "auto_pad of no known kind": (
        [N("Conv", ["x", "w"], ["y"], name="n", auto_pad="BOGUS")],
        "n (Conv): auto_pad is 'BOGUS'; accepted: NOTSET, SAME_UPPER, SAME_LOWER, VALID",
    ),
    "kernel other than the weight's": (
        [N("Conv", ["x", "w"], ["y"], name="n", kernel_shape=[3, 3])],
        "n (Conv): kernel_shape is [3, 3], but its weight has shape [2, 3, 1, 1]",
    ),
    "weight of three axes": (
        [N("Conv", ["x", "slopes"], ["y"], name="n")],
        "n (Conv): its weight has shape [3, 1, 1], but the input has 4 axes",
    ),
    "axis that is not there": (
        [N("ReduceMean", ["x"], ["y"], name="n", axes=[99])],
        "n (ReduceMean): axis 99 of a tensor of 4 axes",
    ),
    "flatten at an axis that is not there": (
        [N("Flatten", ["x"], ["y"], name="n", axis=99)],
        "n (Flatten): axis 99 of a tensor of 4 axes; accepted: -4 to 4",
    ),
    "pool over vectors": (
        [N("Flatten", ["x"], ["f"]), N("GlobalMaxPool", ["f"], ["y"], name="n")],
        "n (GlobalMaxPool): pools a tensor of 2 axes; accepted: 3 or 4",
    ),
    "pads of too few axes": (
        [N("Pad", ["x", "five"], ["y"], name="n")],
        "n (Pad): has 2 pads for the axes [0, 1, 2, 3]",
    ),
    "pad value of no element": (
        [N("Pad", ["x", "pads", "none"], ["y"], name="n")],
        "n (Pad): its pad value has 0 elements; accepted: one number",
    ),
    "attribute of another type": (
        [N("Conv", ["x", "w"], ["y"], name="n", group=1.5)],
        "n (Conv): attribute group is of type FLOAT; accepted: INT",
    ),
    "attribute that the operator does not have": (
        [N("Conv", ["x", "w"], ["y"], name="n", padding=[1, 1])],
        "n (Conv): has an attribute padding, which Conv does not have at opset 11; accepted: auto",
    ),
    "attribute that is no number": (
        [N("LeakyRelu", ["x"], ["y"], name="n", alpha=float("nan"))],
        "n (LeakyRelu): attribute alpha is nan; accepted: a finite number",
    ),
    "random constant": (
        [N("RandomNormal", [], ["r"], name="n", shape=[1]), N("Mul", ["x", "r"], ["y"])],
        "n (RandomNormal): computes constants in a way that is not supported; accepted: Abs, ",
    ),
    "dropout in training": (
        [N("Dropout", ["x", "one", "true"], ["y"], name="n")],
        "n (Dropout): is in training mode; accepted: inference",
    ),
    "dropout of a constant": (
        [N("Dropout", ["one", "x"], ["y"], name="n")],
        "n (Dropout): one is constant, but x depends on the input; accepted: a constant ratio",
    ),
    "constant without bound": (
        [N("ConstantOfShape", ["wide"], ["c"], name="n"), N("Add", ["x", "c"], ["y"])],
        f"n (ConstantOfShape): its result has {1 << 40} elements; accepted: at most ",
    ),
    "range without end": (
        [N("Range", ["one", "one", "nothing"], ["c"], name="n"), N("Add", ["x", "c"], ["y"])],
        "n (Range): does not fit its operands of shape [], [], [] (from 1.0 to 1.0 in steps of 0",
    ),
    "many operands": (
        [N("Concat", ["x"] * 300, ["y"], name="n", axis=1)],
        "n (Concat): has 300 inputs; accepted: at most 256",
    ),
    "map without bound": (
        [N("Pad", ["x", "far"], ["y"], name="n")],
        "n (Pad): pads to 1200480048 elements; accepted: at most ",
    ),
}
MORE = {
    "none": np.zeros(0, np.float32),
    "true": np.array(True),
    "wide": np.array([1 << 20, 1 << 20]),
    "far": np.array([0, 0, 10000, 10000, 0, 0, 10000, 10000]),
}


@pytest.mark.parametrize(("nodes", "words"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense(save, nodes, words):
    assert words in message(save(nodes, opset=13, **CONSTANTS, **MORE))


def test_constants_that_double(save):
    nodes = [N("Concat", [f"c{n}"] * 2, [f"c{n + 1}"], axis=0, name=f"n{n}") for n in range(60)]
    text = message(save([*nodes, N("Add", ["x", "c60"], ["y"])], c0=np.ones(4, np.float32)))
    assert "n22 (Concat): its result has 33554432 elements; accepted: at most 16777216" in text


def test_large_constants_again_and_again(save):
    nodes = [N("Add", [f"c{n}", "one"], [f"c{n + 1}"], name=f"n{n}") for n in range(60)]
    nodes = [N("Expand", ["one", "wide"], ["c0"]), *nodes, N("Add", ["x", "c60"], ["y"])]
    text = message(save(nodes, one=np.float32(1), wide=np.array([1 << 23])))
    assert "(Add): computes constants from more than 67108864 elements" in text


@pytest.mark.parametrize("start", ["trips", "x"])
def test_a_loop_is_refused_by_name(save, start):
    body = helper.make_graph(
        [N("Identity", ["c"], ["d"]), N("Identity", ["v"], ["w"])],
        "body",
        [info("i", [], TensorProto.INT64), info("c", [], TensorProto.BOOL), info("v", [])],
        [info("d", [], TensorProto.BOOL), info("w", [])],
    )
    nodes = [
        N("Loop", ["trips", "true", start], ["v"], name="n", body=body),
        N("Add", ["x", "v"], ["y"]),
    ]
    text = message(save(nodes, trips=np.int64(HUGE), true=np.array(True)))
    assert "1 node not supported: n (Loop); accepted: Abs, " in text


def test_functions_that_double(save, tmp_path):
    functions = [
        helper.make_function(
            "my",
            f"f{n}",
            ["a"],
            ["c"],
            [
                N(f"f{n - 1}" if n else "Relu", ["a"], ["b"], domain="my" if n else ""),
                N(f"f{n - 1}" if n else "Relu", ["b"], ["c"], domain="my" if n else ""),
            ],
            [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)],
        )
        for n in range(40)
    ]
    path = save([N("f39", ["x"], ["y"], domain="my")], domains=["my"])
    model = onnx.load(path)
    model.functions.extend(functions)
    onnx.save(model, path)
    assert f"the model has {1 << 40} nodes; accepted: at most 32768" in message(path)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (["N", HUGE], f"the input has the shape ['N', {HUGE}]; accepted: at most 8 axes and"),
        ([1 << 40, 3, 32, 32], "elements, over all frames of the batch"),
        (["N", *[1] * 9], "accepted: at most 8 axes"),
        (["N", 1 << 20], "accepted: at most 262144 rows or columns and 131072 channels"),
    ],
    ids=["huge", "batch", "axes", "features"],
)
def test_an_input_without_bound(save, shape, words):
    assert words in message(save([N("Relu", ["x"], ["y"])], [info("x", shape)]))


@pytest.mark.parametrize("dtype", [np.complex64, object], ids=str)
def test_weights_that_are_no_numbers(save, dtype):
    path = save([N("Conv", ["x", "w"], ["y"], name="n")], w=W)
    model = onnx.load(path)
    if dtype is object:
        weight = helper.make_tensor("w", TensorProto.STRING, W.shape, [b"one"] * W.size)
    else:
        weight = numpy_helper.from_array(W.astype(dtype), "w")
    model.graph.initializer[0].CopyFrom(weight)
    onnx.save(model, path)
    assert "accepted: float32" in message(path)


def test_a_tensor_that_is_defined_twice(save):
    nodes = [N("Relu", ["x"], ["y"]), N("Sigmoid", ["x"], ["y"])]
    assert "defines y more than once; accepted: one node" in message(save(nodes))


def test_a_name_without_end(save):
    nodes = [N("Relu", ["x"], ["y" * 2000])]
    assert "a name of 2000 characters; accepted: at most 1000" in message(
        save(nodes, outputs=[info("y" * 2000, None)])
    )


def test_external_weights_of_a_sparse_file(save, tmp_path):
    path = save([N("Conv", ["x", "w"], ["y"])], w=W)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].dims[0] = 1 << 33
    onnx.save(model, path)
    with open(tmp_path / "w.bin", "r+b") as file:
        file.truncate(1 << 40)
    assert "elements, no axis below 0" in message(path)
    model.graph.initializer[0].dims[0] = 1 << 26
    onnx.save(model, path)
    assert "bytes with its weights; accepted: at most 268435456" in message(path)

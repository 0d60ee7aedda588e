"""Bounds on what is read from files, so that every input ends in bounded time and memory.

Each bound is far above what fits any board, and far below what a host can not hold: a file beyond
it is refused before anything of that size is allocated.
"""

__all__ = [
    "CHANNELS",
    "CONSTANT_ELEMENTS",
    "EXTENT",
    "FOLDED_ELEMENTS",
    "INFERENCE_BYTES",
    "JSON_BYTES",
    "JSON_DEPTH",
    "LABELS",
    "MAP_ELEMENTS",
    "MODEL_BYTES",
    "NAME",
    "NODES",
    "OPERANDS",
    "PIXELS",
    "PORTS",
    "RANK",
    "SAMPLE_BYTES",
    "SIMULATED_ELEMENTS",
    "WINDOW",
    "WORK",
]

#: bytes of a model file together with its external weights
MODEL_BYTES = 256 << 20
#: nodes of a model, after its local functions are inlined
NODES = 1 << 15
#: inputs of a model, and outputs
PORTS = 64
#: characters of the name of a model's input or output
NAME = 1000
#: axes of a tensor
RANK = 8
#: elements of a feature map, over all frames of the model's batch
MAP_ELEMENTS = 1 << 22
#: channels of a feature map, or features of a vector
CHANNELS = 1 << 17
#: rows or columns of a feature map
EXTENT = 1 << 18
#: inputs of one node
OPERANDS = 256
#: extent of a kernel, a stride, a dilation or a pad
WINDOW = 1 << 12
#: elements of a constant that the importer computes
CONSTANT_ELEMENTS = 1 << 24
#: elements that constant folding reads and writes, over a whole model
FOLDED_ELEMENTS = 1 << 26
#: element labels that the importer holds at a time
LABELS = 1 << 26
#: element labels that the importer computes, over a whole model
WORK = 1 << 28
#: bytes that ONNX's shape inference takes, besides copies of the model
INFERENCE_BYTES = 512 << 20
#: bytes of the arrays in a file of samples
SAMPLE_BYTES = 512 << 20
#: elements of all feature maps of all frames of one simulation
SIMULATED_ELEMENTS = 1 << 28
#: pixels of an image file
PIXELS = 1 << 26
#: bytes of a JSON file that a command reads
JSON_BYTES = 16 << 20
#: nesting of a JSON file
JSON_DEPTH = 32

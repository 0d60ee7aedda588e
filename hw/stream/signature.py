"""Signatures of streams between stages, and of push streams inside a stage."""

from amaranth import Module, Shape
from amaranth.hdl import ShapeLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import Out

__all__ = ["integer", "beats", "connect_push", "PushStream"]


def integer(bits: int, is_signed: bool) -> Shape:
    """The shape of one element."""
    return Shape(bits, is_signed)


def beats(lanes: int, element: ShapeLike) -> stream.Signature:
    """A stream of feature maps: a beat is ``lanes`` consecutive channels of one pixel.

    A pixel of ``c`` channels takes ``ceil(c / lanes)`` beats, the last one padded; pixels come in
    raster order and frames back to back, with no marker between them.
    """
    return stream.Signature(data.ArrayLayout(Shape.cast(element), lanes))


class PushStream(wiring.Signature):
    """A stream without backpressure inside a stage: ``payload`` is transferred while ``valid``.

    ``first`` and ``last`` mark the ends of a reduction: the cycles whose payloads make one result.
    Room for results is reserved before a reduction starts, so the arithmetic never stalls.
    """

    def __init__(self, elements: int, element: ShapeLike):
        self.elements = elements
        self.element = Shape.cast(element)
        super().__init__(
            {
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "payload": Out(data.ArrayLayout(self.element, elements)),
            }
        )


def connect_push(m: Module, source, sink) -> None:
    """Join two push streams whose payloads are the same bits in elements of another size."""
    m.d.comb += [
        sink.valid.eq(source.valid),
        sink.first.eq(source.first),
        sink.last.eq(source.last),
        sink.payload.as_value().eq(source.payload.as_value()),
    ]

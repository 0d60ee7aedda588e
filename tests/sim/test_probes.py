"""What stages did, from the handshakes that the bench counted."""

from gatewright.sim.probes import Counts, Handshake, Probes, QueueProbe, StageProbe, activity

STREAM = Handshake("s.o__valid", "s.o__ready")
STAGE = StageProbe("s", (STREAM,), (STREAM,), cycles_per_beat=4)


def stage(*lines, span=10, cycles=35):
    probes = Probes((STAGE,), (), span, 3)
    (found,) = activity(probes, Counts((lines,)), cycles, {})["stages"]
    return found


def test_the_computation_of_a_beat_lies_before_it_leaves():
    found = stage((0, 0, 10), (5, 0, 5), (0, 0, 10), (0, 0, 5))
    assert found["busy"] == [10, 10, 0]
    assert (found["busy_cycles"], found["starved_cycles"]) == (20, 15)


def test_a_stage_that_computes_is_not_stalled_at_the_same_time():
    found = stage((1, 9, 0), (1, 2, 0), (0, 10, 0), (0, 5, 0))
    assert found["busy"] == [4, 4, 0]
    assert found["stalled"] == [6, 2, 10]
    assert found["busy_cycles"] + found["stalled_cycles"] + found["starved_cycles"] == 35


def test_a_queue_tells_its_most_and_its_mean():
    queue = QueueProbe("s", 1, "x", 8, STREAM, STREAM)
    counts = Counts((((0, 0, 0),) * 2,), (((3, 20), (5, 10)),))
    (found,) = activity(Probes((STAGE,), (queue,), 10, 1), counts, 20, {})["queues"]
    assert (found["peak"], found["mean"], found["peaks"]) == (5, 1.5, [3])


def test_without_probes_nothing_is_said():
    assert activity(Probes(), Counts(), 100, {}) is None


def test_a_span_that_the_last_cycle_completes_is_counted():
    found = stage((0, 0, 10), (5, 0, 5), (0, 0, 10), (0, 0, 0), cycles=29)
    assert found["busy"] == [10, 10, 0]
    assert found["busy_cycles"] == 20

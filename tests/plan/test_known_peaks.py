"""Nothing is asked twice, and a replay without retries answers for larger cards."""

from plan_fakes import affine

from vramcast.plan.known_peaks import KnownPeaks, known_peaks
from vramcast.units import GIB, MIB


def test_answers_are_kept() -> None:
    source = affine(GIB, MIB)
    known = KnownPeaks(source)
    for _ in range(3):
        assert known.live_bytes(1, 1024) == 2 * GIB
        assert known.peaks(1, 1024).reserved_bytes == 2 * GIB
        assert known.peaks(1, 1024, GIB).out_of_memory
    assert (source.live_calls, source.peaks_calls) == (1, [(1, 1024, None), (1, 1024, GIB)])


def test_a_replay_without_retries_answers_without_a_limit_and_for_larger_cards() -> None:
    source = affine(GIB, MIB)
    known = KnownPeaks(source)
    first = known.peaks(1, 1024, 3 * GIB)
    assert known.peaks(1, 1024) == known.peaks(1, 1024, 4 * GIB) == first
    assert len(source.peaks_calls) == 1
    assert known.peaks(1, 1024, GIB).out_of_memory


def test_live_tensors_alone_can_prove_that_a_job_does_not_run() -> None:
    source = affine(GIB, MIB)
    assert not KnownPeaks(source).runs(1, 1024, GIB)
    assert source.peaks_calls == []


def test_a_source_that_remembers_is_not_wrapped_again() -> None:
    known = KnownPeaks(affine(GIB, MIB))
    assert known_peaks(known) is known

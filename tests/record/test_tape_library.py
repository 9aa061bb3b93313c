"""The tapes that ship: what is planned, recording that goes on where it stopped, and the check that they are up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from tests.tapes.tape_fakes import make_tape, rewritten

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model, preset_names
from vramcast.record import tape_library, tape_library_recording
from vramcast.record.tape_library_check import compare_with_plan, drawn
from vramcast.record.tape_library_plan import (
    ModelRow,
    OptimizerRow,
    PlannedTape,
    Selection,
    planned_tapes,
    selection,
    sequence_length,
)
from vramcast.record.tape_library_recording import Outcome, WorkFolder, record_tapes
from vramcast.tapes import Tape, binding
from vramcast.tapes.archive import Archive
from vramcast.tapes.dimensions import model_values
from vramcast.tapes.format import dump
from vramcast.tapes.key import Key, canonical, generation_key, model_key, optimizer_key

ONE_ROW = ModelRow(
    precision=["fp32"],
    attention=["sdpa"],
    checkpointing=["none"],
    dropout=["own"],
    accumulation=[False],
    window=["below"],
)
SMALL = Selection(model=[ONE_ROW], optimizer=[OptimizerRow(precision=["fp32"], optimizer=["sgd"], clipping=[False])])

SHIPPED = [
    preset for preset in preset_names() if load_model(preset, offline=True).model_type in selection().model_types
]
"""Presets of the families that ship."""


@pytest.fixture(scope="module")
def whole_plan() -> list[PlannedTape]:
    return planned_tapes()


Planned = dict[str, list[PlannedTape]]


@pytest.fixture(scope="module")
def by_key(whole_plan: list[PlannedTape]) -> Planned:
    found: Planned = {}
    for planned in whole_plan:
        found.setdefault(json.dumps(planned.key, sort_keys=True), []).append(planned)
    return found


def applies(by_key: Planned, key: Key, values: dict[str, int]) -> bool:
    same_key = by_key.get(json.dumps(key, sort_keys=True), [])
    return any(all(guard.holds(values) for guard in planned.guards) for planned in same_key)


class TestPlan:
    @pytest.mark.parametrize("preset", SHIPPED)
    def test_covers_every_preset(self, preset: str, by_key: Planned) -> None:
        config = load_model(preset, offline=True)
        length = min(config.dimensions.context_length, 1024)
        asked = [
            (batch_size, precision, attention, checkpointing, accumulation)
            for row in selection().model
            if not row.model_types or config.model_type in row.model_types
            for precision in row.precision
            for attention in row.attention
            for checkpointing in row.checkpointing
            for accumulation in row.accumulation
            for batch_size in (1, 8, 12)
        ]
        for batch_size, precision, attention, checkpointing, accumulation in asked:
            job = TrainingJob(
                model=preset,
                batch_size=batch_size,
                sequence_length=length,
                precision=precision,
                attention=attention,
                checkpointing=checkpointing,
                gradient_accumulation_steps=3 if accumulation else 1,
            )
            values = {**model_values(config), "B": batch_size, "T": length}
            key, _ = canonical(model_key(job, config))
            assert applies(by_key, key, values), job

    @pytest.mark.parametrize("preset", SHIPPED)
    def test_covers_every_optimizer_that_ships(self, preset: str, by_key: Planned) -> None:
        config = load_model(preset, offline=True)
        asked = {
            ("fp32", "adamw", False),
            ("amp-bf16", "adamw", True),
            ("bf16", "adamw", False),
            ("fp16", "adamw", True),
        }
        for row in selection().optimizer:
            if not row.model_types or config.model_type in row.model_types:
                asked |= {*product(row.precision, row.optimizer, row.clipping)}
        for precision, optimizer, clipping in asked:
            job = TrainingJob(
                model=preset, precision=precision, optimizer=optimizer, max_grad_norm=0.5 if clipping else None
            )
            key, _ = canonical(optimizer_key(job, config))
            assert applies(by_key, key, {**model_values(config), "B": 8, "T": 64}), job

    @pytest.mark.parametrize("preset", SHIPPED)
    def test_covers_generation(self, preset: str, by_key: Planned) -> None:
        config = load_model(preset, offline=True)
        asked = [
            (batch_size, precision, attention, cache)
            for row in selection().generation
            if not row.model_types or config.model_type in row.model_types
            for batch_size, precision, attention, cache in product((1, 8, 12), row.precision, row.attention, row.cache)
        ]
        for batch_size, precision, attention, cache in asked:
            job = GenerationJob(
                model=preset, batch_size=batch_size, precision=precision, attention=attention, cache=cache
            )
            key, _ = canonical(generation_key(job, config))
            assert applies(by_key, key, {**model_values(config), "B": batch_size}), job

    def test_a_reached_window_can_be_asked_for(self) -> None:
        presets = ["mistral-7b", "phi-3-mini", "gemma-2-2b"]
        row = selection().model[0].model_copy(update={"window": ["reached"]})
        reached = {
            question.job.model
            for tape in planned_tapes(Selection(model=[row], optimizer=[]), presets=presets)
            for question in tape.questions
            if isinstance(question.job, TrainingJob)
            and question.config.dimensions.sliding_window is not None
            and question.job.sequence_length >= question.config.dimensions.sliding_window
        }
        assert reached == set(presets)

    def test_the_order_is_fixed_and_archives_are_together(self, whole_plan: list[PlannedTape]) -> None:
        assert [tape.name for tape in planned_tapes()] == [tape.name for tape in whole_plan]
        archives = [tape.archive for tape in whole_plan]
        assert archives == sorted(archives) and len({tape.name for tape in whole_plan}) == len(whole_plan)

    @pytest.mark.parametrize(
        ("preset", "tapes"),
        [
            (["gpt2"], 3),  # a batch of 1, a larger one; the optimizer
            (["gpt2", "gpt2-medium", "gpt2-xl"], 3),  # they differ in sizes alone
            (["llama-2-7b", "llama-3-8b"], 6),  # one of them has grouped heads
            (["starcoder", "starcoderbase-1b"], 6),  # two structures
        ],
    )
    def test_counts(self, preset: list[str], tapes: int) -> None:
        assert len(planned_tapes(SMALL, presets=preset)) == tapes

    def test_both_sides_of_a_window_are_counted(self) -> None:
        both = Selection(model=[ONE_ROW.model_copy(update={"window": ["below", "reached"]})], optimizer=[])
        assert len(planned_tapes(both, presets=["mistral-7b"])) == 4
        assert len(planned_tapes(both, presets=["gpt2"])) == 2

    def test_no_dropout_is_another_tape_where_the_preset_has_dropout(self) -> None:
        both = Selection(model=[ONE_ROW.model_copy(update={"dropout": ["own", "none"]})], optimizer=[])
        assert len(planned_tapes(both, presets=["gpt2"])) == 4
        assert len(planned_tapes(both, presets=["llama-3-8b"])) == 2

    def test_rows_may_overlap_and_name_model_types(self) -> None:
        only_opt = ONE_ROW.model_copy(update={"model_types": ["opt"]})
        assert len(planned_tapes(Selection(model=[ONE_ROW, ONE_ROW, only_opt], optimizer=[]), presets=["gpt2"])) == 2
        assert planned_tapes(Selection(model=[only_opt], optimizer=[]), presets=["gpt2"]) == []

    def test_only_some_model_types(self) -> None:
        assert {tape.archive.split("-")[0] for tape in planned_tapes(SMALL, only=["opt", "phi"])} == {
            "opt",
            "phi",
        }

    @pytest.mark.parametrize(
        ("preset", "below", "reached"),
        [("gpt2", 1024, None), ("tiny", 128, None), ("phi-3-mini", 1024, 2048), ("mistral-7b", 1024, 4096)],
    )
    def test_sequence_lengths(self, preset: str, below: int, reached: int | None) -> None:
        config = load_model(preset, offline=True)
        assert (sequence_length(config, "below"), sequence_length(config, "reached")) == (below, reached)

    def test_needs_no_torch(self) -> None:
        code = "import sys, vramcast.record.tape_library_plan as p; p.planned_tapes(); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class OneProcess:
    """A process pool that runs in this process."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> OneProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(call(*arguments))
        return future

    def shutdown(self, cancel_futures: bool) -> None: ...


class FakeRecorder:
    """Stands for the recorder: a tape of one allocation, for the settings and the conditions of its plan."""

    def __init__(self, plan: Sequence[PlannedTape]) -> None:
        self.regimes = {planned.regime: planned for planned in plan}
        self.recorded: list[str] = []
        self.failing = ""
        """Preset whose tapes cannot be recorded."""
        self.fewest_layers = 1
        """A tape for fewer holds for the layers of its question alone."""

    def __call__(self, part: str, job: TrainingJob | GenerationJob, path: Path) -> str | None:
        self.recorded.append(path.name)
        if job.model == self.failing:
            return "RecordingError: no"
        path.write_bytes(dump(self.tape(self.regimes[path.name.split("-")[0]], job)))
        return None

    def tape(self, planned: PlannedTape, job: TrainingJob | GenerationJob) -> Tape:
        layers = load_model(job.model, offline=True).dimensions.num_hidden_layers
        tape = replace(make_tape(planned.key), guards=planned.guards, min_layers=self.fewest_layers)
        return tape if layers >= self.fewest_layers else replace(tape, min_layers=layers, max_layers=layers)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> list[PlannedTape]:
    plan = planned_tapes(SMALL, presets=["gpt2", "small", "tiny"])
    monkeypatch.setattr(
        tape_library, "planned_tapes", lambda only: [t for t in plan if not only or "gpt2" in t.archive]
    )
    return plan


@pytest.fixture
def recorder(plan: list[PlannedTape], monkeypatch: pytest.MonkeyPatch) -> FakeRecorder:
    recorder = FakeRecorder(plan)
    monkeypatch.setattr(tape_library_recording, "ProcessPoolExecutor", OneProcess)
    monkeypatch.setattr(tape_library_recording, "_record", recorder)
    return recorder


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    return ["--library", str(tmp_path / "library"), "--work", str(tmp_path / "work")]


def archives(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "library").glob("*"))


class TestRecording:
    def test_writes_an_archive_for_each_structure(
        self, plan: list[PlannedTape], recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        assert tape_library.main(flags) == 0
        assert [path.name for path in archives(tmp_path)] == sorted({planned.archive for planned in plan})
        state = compare_with_plan(plan, tmp_path / "library")
        assert state.failures == [] and len(state.shipped) == len(plan) == 6

    def test_goes_on_where_it_was_stopped(
        self, plan: list[PlannedTape], recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        work = WorkFolder(tmp_path / "work")
        some: Iterator[Outcome] = record_tapes(plan, work, 1)
        next(some)
        assert len(recorder.recorded) == len(plan)  # one process: submitted is recorded
        work.path(plan[0]).write_bytes(b"half a file")
        recorder.recorded.clear()
        assert all(outcome.error is None for outcome in record_tapes(plan, work, 1))
        assert recorder.recorded == [work.path(plan[0]).name]

    def test_finished_tapes_give_the_same_archive(
        self, recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        assert tape_library.main(flags) == 0
        before = [path.read_bytes() for path in archives(tmp_path)]
        recorder.recorded.clear()
        assert tape_library.main(flags) == 0
        assert recorder.recorded == [] and [path.read_bytes() for path in archives(tmp_path)] == before

    def test_models_of_few_layers_get_a_tape_of_their_own(
        self, plan: list[PlannedTape], recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        recorder.fewest_layers = 5  # tiny has 4 layers, small 6
        assert tape_library.main(flags) == 0
        state = compare_with_plan(plan, tmp_path / "library")
        assert state.failures == [] and len(state.shipped) == 9
        assert [each.questions[0].job.model for each in state.shipped if each.variant == 1] == ["tiny"] * 3
        recorder.recorded.clear()
        assert tape_library.main(flags) == 0 and recorder.recorded == []

    def test_what_fails_is_named_and_the_rest_is_written(
        self, recorder: FakeRecorder, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recorder.failing = "gpt2"
        assert tape_library.main(flags) == 1
        assert "model of gpt2" in capsys.readouterr().err
        assert [path.name.split("-")[0] for path in archives(tmp_path)] == ["vramcast_gpt"]

    def test_a_tape_that_does_not_answer_its_own_question_fails(
        self,
        recorder: FakeRecorder,
        flags: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(recorder, "tape", lambda planned, job: replace(make_tape(planned.key), min_layers=1000))
        assert tape_library.main(flags) == 1
        assert "a tape was recorded, but it was recorded for 1000 layers and more" in capsys.readouterr().err

    def test_only_outdated_tapes_are_recorded_anew(
        self,
        plan: list[PlannedTape],
        recorder: FakeRecorder,
        flags: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        recorder.fewest_layers = 5  # with variants
        assert tape_library.main(flags) == 0
        before = archives(tmp_path)[0].read_bytes()
        true_tape = recorder.tape
        monkeypatch.setattr(
            recorder, "tape", lambda planned, job: replace(true_tape(planned, job), assumptions=("with its buffers",))
        )
        monkeypatch.setattr(
            binding, "missing_rule", lambda tape: None if tape.key["part"] != "model" or tape.assumptions else "made_up"
        )
        assert len(compare_with_plan(plan, tmp_path / "library").shipped) == 3
        recorder.recorded.clear()
        again = [*flags, "--work", str(tmp_path / "new work"), "--outdated"]
        assert tape_library.main(again) == 0
        assert "3 shipped tapes are kept" in capsys.readouterr().err
        assert len(recorder.recorded) == 6 and archives(tmp_path)[0].read_bytes() != before
        state = compare_with_plan(plan, tmp_path / "library")
        assert state.failures == [] and len(state.shipped) == 9
        archives(tmp_path)[0].write_bytes(before[:-40])
        assert tape_library.main(again) == 1
        assert archives(tmp_path)[0].name in capsys.readouterr().err

    def test_archives_of_no_preset_are_removed(self, recorder: FakeRecorder, flags: list[str], tmp_path: Path) -> None:
        (tmp_path / "library").mkdir()
        (tmp_path / "library" / "gpt2-000000000000.zip").write_bytes(b"old")
        assert tape_library.main([*flags, "--only", "gpt2"]) == 0
        assert len(archives(tmp_path)) == 2
        assert tape_library.main(flags) == 0
        assert "gpt2-000000000000.zip" not in [path.name for path in archives(tmp_path)]

    def test_the_plan_can_be_listed(
        self, recorder: FakeRecorder, flags: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert tape_library.main([*flags, "--list"]) == 0
        assert "in all 4 model tapes and 2 optimizer tapes, 9 questions" in capsys.readouterr().out
        assert recorder.recorded == []


def test_an_unknown_model_type_is_bad_input(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tape_library.main([*flags, "--only", "gtp2"]) == 2
    assert "no preset has the model type gtp2" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--processes", "0"], ["--check", "0"], ["--check", "some"]])
def test_bad_flags_are_refused(flag: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        tape_library.main(flag)


class TestCheck:
    def test_passes_where_nothing_changed(self, recorder: FakeRecorder, flags: list[str]) -> None:
        assert tape_library.main(flags) == 0
        recorder.recorded.clear()
        assert tape_library.main([*flags, "--check", "2", "--seed", "1"]) == 0
        assert len(recorder.recorded) == 2

    def test_checks_tapes_of_few_layers_too(self, recorder: FakeRecorder, flags: list[str]) -> None:
        recorder.fewest_layers = 5
        assert tape_library.main(flags) == 0
        recorder.recorded.clear()
        assert tape_library.main([*flags, "--check", "99"]) == 0
        assert len(recorder.recorded) == 9

    def test_names_a_tape_that_is_recorded_otherwise_now(
        self,
        recorder: FakeRecorder,
        flags: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert tape_library.main(flags) == 0
        true_tape = recorder.tape
        monkeypatch.setattr(
            recorder, "tape", lambda planned, job: replace(true_tape(planned, job), assumptions=("another",))
        )
        assert tape_library.main([*flags, "--check", "1", "--seed", "3"]) == 1
        assert "what is recorded now is not what ships" in capsys.readouterr().err

    def test_names_a_tampered_archive(
        self, recorder: FakeRecorder, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert tape_library.main(flags) == 0
        path = archives(tmp_path)[0]
        for settings in Archive(path).settings():
            for entry in Archive(path).entries(settings):
                tampered = Archive(path).content(entry).replace(b'"h.*.attn"', b'"h.*.mlp"')
                path.write_bytes(rewritten(path.read_bytes(), entry, tampered))
        assert tape_library.main([*flags, "--check", "99"]) == 1
        assert path.name in capsys.readouterr().err

    def test_names_a_damaged_and_a_missing_archive(
        self, recorder: FakeRecorder, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert tape_library.main(flags) == 0
        damaged, missing = archives(tmp_path)
        damaged.write_bytes(damaged.read_bytes()[:-40])
        missing.unlink()
        assert tape_library.main([*flags, "--check", "1"]) == 1
        said = capsys.readouterr().err
        assert damaged.name in said and missing.name in said

    def test_names_a_question_without_a_tape(
        self, plan: list[PlannedTape], recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        recorder.fewest_layers = 5
        recorder.failing = "tiny"
        assert tape_library.main(flags) == 1
        state = compare_with_plan(plan, tmp_path / "library")
        assert len(state.failures) == 3 and all("no tape answers tiny" in failure for failure in state.failures)

    def test_settings_that_are_not_planned_are_told(
        self, plan: list[PlannedTape], recorder: FakeRecorder, flags: list[str], tmp_path: Path
    ) -> None:
        assert tape_library.main(flags) == 0
        fewer = [planned for planned in plan if planned.part == "model"]
        failures = compare_with_plan(fewer, tmp_path / "library").failures
        assert len(failures) == 2 and all("1 settings that are not planned" in failure for failure in failures)

    def test_the_draw_follows_the_seed(self, plan: list[PlannedTape]) -> None:
        assert drawn(plan, 3, seed=1) == drawn(plan, 3, seed=1)
        assert len({tuple(each.name for each in drawn(plan, 3, seed)) for seed in range(20)}) > 1
        assert drawn(plan, 99, seed=1) == plan


@pytest.mark.slow
def test_a_real_tape_is_recorded_and_checked(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned_tapes(Selection(model=[], optimizer=SMALL.optimizer), presets=["tiny"])
    monkeypatch.setattr(tape_library, "planned_tapes", lambda only: plan)
    assert tape_library.main([*flags, "--processes", "1"]) == 0
    assert tape_library.main([*flags, "--processes", "1", "--check", "1"]) == 0
    assert "1 of 1 tapes compared" in capsys.readouterr().err

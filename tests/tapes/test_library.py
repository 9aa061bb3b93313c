"""Archives of tapes that ship, and the cache of those recorded here."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tapes.tape_fakes import STRUCTURE, key_of, make_tape, rewritten

from vramcast.errors import MissingExtraError
from vramcast.forecast.training_tapes import found_or_recorded
from vramcast.tapes import Tape, TapeError, library
from vramcast.tapes.archive import INDEX, Archive, archive_bytes, archive_name, content_bytes, entry_name
from vramcast.tapes.format import dump
from vramcast.tapes.inventory import tape_files
from vramcast.tapes.key import settings_digest
from vramcast.tapes.library import cache_folder, find_tapes, keep_tape, recorder_digest, whole_tape


def write_archive(folder: Path, data: bytes, name: str = archive_name("gpt2", key_of())) -> Archive:
    path = folder / name
    path.write_bytes(data)
    return Archive(path)


def all_tapes(archive: Archive) -> list[Tape]:
    return [tape for settings in archive.settings() for tape in archive.tapes(settings)]


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty library and an empty cache."""
    shipped = tmp_path / "library"
    shipped.mkdir()
    monkeypatch.setattr(library, "library_folder", lambda: shipped)
    monkeypatch.setattr(library, "_REMEMBERED", {})
    monkeypatch.setenv(library.CACHE_VARIABLE, str(tmp_path / "cache"))
    library.shipped_archives.cache_clear()
    recorder_digest.cache_clear()
    yield shipped
    library.shipped_archives.cache_clear()
    recorder_digest.cache_clear()


class TestArchive:
    def test_gives_back_what_was_put_in(self, tmp_path: Path) -> None:
        tapes = [
            make_tape(key_of()),
            make_tape(key_of(), batch_above_one=False),
            make_tape(key_of("amp-bf16"), size=2),
        ]
        archive = write_archive(tmp_path, archive_bytes(tapes))
        assert list(archive.tapes(settings_digest(key_of()))) == tapes[:2]
        assert list(archive.tapes(settings_digest(key_of("amp-bf16")))) == tapes[2:]
        assert len(all_tapes(archive)) == 3

    def test_same_tapes_give_the_same_bytes(self) -> None:
        def tapes() -> list[Tape]:
            return [make_tape(key_of()), make_tape(key_of("bf16"), size=2)]

        assert archive_bytes(tapes()) == archive_bytes(tapes())

    def test_equal_tapes_of_two_settings_are_stored_once(self, tmp_path: Path) -> None:
        keys = [key_of(), key_of(attention="eager")]
        archive = write_archive(tmp_path, archive_bytes([make_tape(key) for key in keys]))
        with zipfile.ZipFile(tmp_path / archive.name) as file:
            assert len(file.namelist()) == 2 and INDEX in file.namelist()
        assert [tape.key for key in keys for tape in archive.tapes(settings_digest(key))] == keys

    def test_a_tape_given_twice_is_found_once(self, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, archive_bytes([make_tape(key_of()), make_tape(key_of())]))
        assert len(all_tapes(archive)) == 1

    def test_one_structure_only(self) -> None:
        other = {**key_of(), "structure": {"model_type": "opt"}}
        with pytest.raises(AssertionError, match="one structure"):
            archive_bytes([make_tape(key_of()), make_tape(other)])

    def test_other_settings_have_no_tapes(self, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, archive_bytes([make_tape(key_of())]))
        assert list(archive.tapes(settings_digest(key_of("bf16")))) == []

    def test_tapes_whose_guards_do_not_hold_are_not_read(self, tmp_path: Path) -> None:
        alone, many = make_tape(key_of(), batch_above_one=False), make_tape(key_of())
        damaged = rewritten(archive_bytes([alone, many]), entry_name(content_bytes(alone)), b"{}")
        archive = write_archive(tmp_path, damaged)
        settings = settings_digest(key_of())
        assert list(archive.tapes(settings, {"B": 8})) == [many]
        with pytest.raises(TapeError, match="not a vramcast tape"):
            list(archive.tapes(settings, {"B": 1}))

    def test_an_entry_is_named_by_its_content_without_its_key(self) -> None:
        one, two = make_tape(key_of()), make_tape(key_of("bf16"))
        assert content_bytes(one) == content_bytes(two) != content_bytes(make_tape(key_of(), size=2))
        assert "key" not in json.loads(content_bytes(one))


WHOLE = archive_bytes([make_tape(key_of()), make_tape(key_of("bf16"), size=2)])
FIRST_ENTRY = entry_name(content_bytes(make_tape(key_of())))


class TestDamage:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"no archive",
            WHOLE[:-30],
            WHOLE[: len(WHOLE) // 2],
            rewritten(WHOLE, INDEX, None),
            rewritten(WHOLE, INDEX, b"[]"),
            rewritten(WHOLE, INDEX, b"{"),
            rewritten(WHOLE, INDEX, b'{"structure":{},"guards":[],"settings":[]}'),
            rewritten(WHOLE, INDEX, b'{"structure":{},"guards":[],"settings":{"a":{"key":{},"tapes":[["b.json",0]]}}}'),
            rewritten(WHOLE, FIRST_ENTRY, None),
            rewritten(WHOLE, FIRST_ENTRY, b"\xff"),
            rewritten(WHOLE, FIRST_ENTRY, b"[1]"),
        ],
    )
    def test_is_an_error_that_names_the_archive(self, data: bytes, tmp_path: Path) -> None:
        archive = write_archive(tmp_path, data)
        with pytest.raises(TapeError, match=archive.name):
            all_tapes(archive)

    def test_a_missing_archive_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TapeError, match=r"gone\.zip"):
            Archive(tmp_path / "gone.zip").settings()

    @settings(deadline=None)
    @given(place=st.integers(0, len(WHOLE) - 1), bits=st.integers(1, 255))
    def test_no_changed_byte_gives_another_tape(
        self, place: int, bits: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        data = bytearray(WHOLE)
        data[place] ^= bits
        archive = write_archive(tmp_path_factory.getbasetemp(), bytes(data))
        try:
            tapes = all_tapes(archive)
        except TapeError as error:
            assert archive.name in str(error)
        else:
            assert tapes == [make_tape(key_of()), make_tape(key_of("bf16"), size=2)]


class TestFinding:
    def test_shipped_before_recorded(self, own_folders: Path) -> None:
        shipped, recorded = make_tape(key_of()), make_tape(key_of(), size=8)
        write_archive(own_folders, archive_bytes([shipped]))
        keep_tape(recorded)
        assert next(find_tapes(key_of())) == shipped
        assert recorded in find_tapes(key_of())

    def test_only_archives_of_the_structure_are_opened(self, own_folders: Path) -> None:
        write_archive(own_folders, archive_bytes([make_tape(key_of())]))
        (own_folders / "opt-000000000000.zip").write_bytes(b"damaged")
        assert len(list(find_tapes(key_of()))) == 1

    def test_a_damaged_archive_is_not_passed_over(self, own_folders: Path) -> None:
        archive = write_archive(own_folders, WHOLE[:-30])
        with pytest.raises(TapeError, match=archive.name):
            list(find_tapes(key_of()))

    def test_numbers_choose_among_shipped_tapes(self, own_folders: Path) -> None:
        alone, many = make_tape(key_of(), batch_above_one=False), make_tape(key_of())
        write_archive(own_folders, archive_bytes([alone, many]))
        assert list(find_tapes(key_of(), {"B": 1})) == [alone]
        assert list(find_tapes(key_of(), {"B": 2})) == [many]
        assert list(find_tapes(key_of())) == [alone, many]

    def test_optimizers_of_bfloat16_serve_float16_under_its_name(self, own_folders: Path) -> None:
        half, other_half = ({"part": "optimizer", "structure": STRUCTURE, "weights": name} for name in ("bf16", "fp16"))
        write_archive(own_folders, archive_bytes([make_tape(half, dtype="bfloat16")]))
        (found,) = find_tapes(other_half)
        assert found.labels[0].dtype == "float16"
        assert next(find_tapes(other_half)) is found

    def test_nothing_shipped_and_nothing_recorded(self, own_folders: Path) -> None:
        own_folders.rmdir()
        assert list(find_tapes(key_of())) == []


def other_version(data: bytes) -> bytes:
    return gzip.compress(json.dumps({**json.loads(gzip.decompress(data)), "version": 0}).encode())


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-9],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "zeros": lambda data: bytes(len(data)),
    "text": lambda data: b"no tape",
    "other JSON": lambda data: gzip.compress(b"[1]"),
    "nested too deeply": lambda data: gzip.compress(b"[" * 100_000),
    "another version": other_version,
}


class TestCache:
    def test_is_read_by_later_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tape = make_tape(key_of())
        path = keep_tape(tape)
        assert path is not None and path.is_relative_to(cache_folder())
        monkeypatch.setattr(library, "_REMEMBERED", {})
        assert list(find_tapes(key_of())) == [tape]

    def test_a_folder_that_cannot_be_written_keeps_tapes_for_this_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv(library.CACHE_VARIABLE, str(tmp_path / "file"))
        tape = make_tape(key_of())
        assert keep_tape(tape) is None
        assert list(find_tapes(key_of())) == [tape]
        assert (tmp_path / "file").read_text() == "in the way"

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_a_damaged_file_is_recorded_anew(
        self, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tape = make_tape(key_of())
        path = keep_tape(tape)
        assert path is not None
        whole = path.read_bytes()
        path.write_bytes(damage(whole))
        monkeypatch.setattr(library, "_REMEMBERED", {})
        assert list(find_tapes(key_of())) == []
        assert [(file.origin, file.number_of_tapes) for file in tape_files()] == [("damaged", 0)]
        assert found_or_recorded([key_of()], lambda found: None, lambda: tape) == tape
        assert path.read_bytes() == whole
        monkeypatch.setattr(library, "_REMEMBERED", {})
        assert list(find_tapes(key_of())) == [tape]

    def test_a_damaged_file_that_another_takes_the_place_of_is_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = keep_tape(make_tape(key_of(), size=2))
        assert path is not None
        path.write_bytes(b"")
        monkeypatch.setattr(library, "_REMEMBERED", {})
        other = keep_tape(make_tape(key_of()))
        assert other is not None and other != path
        assert list(path.parent.iterdir()) == [other]

    def test_what_cannot_be_recorded_anew_is_refused_with_the_way_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = keep_tape(make_tape(key_of()))
        assert path is not None
        path.write_bytes(path.read_bytes()[:-9])
        monkeypatch.setattr(library, "_REMEMBERED", {})

        def record() -> Tape:
            raise MissingExtraError("a job whose tape is not there", "record")

        with pytest.raises(MissingExtraError, match=r"pip install 'vramcast\[record\]'"):
            found_or_recorded([key_of()], lambda found: None, record)

    def test_a_folder_in_the_place_of_a_tape_does_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tape = make_tape(key_of())
        path = keep_tape(tape)
        assert path is not None
        path.unlink()
        path.mkdir()
        monkeypatch.setattr(library, "_REMEMBERED", {})
        assert found_or_recorded([key_of()], lambda found: None, lambda: tape) == tape

    @settings(deadline=None)
    @given(place=st.integers(0, len(dump(make_tape(key_of()))) - 1), bits=st.integers(1, 255))
    def test_no_changed_byte_is_read(self, place: int, bits: int) -> None:
        path = keep_tape(make_tape(key_of()))
        assert path is not None
        data = bytearray(path.read_bytes())
        data[place] ^= bits
        path.write_bytes(data)
        library._recorded_tape.cache_clear()
        assert whole_tape(path) is None

    def test_another_release_of_torch_has_another_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        here = cache_folder()
        recorder_digest.cache_clear()
        assert cache_folder() == here
        true_version = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "torch" else true_version(name))
        recorder_digest.cache_clear()
        assert cache_folder() != here and cache_folder().parent == here.parent

    def test_without_torch_there_is_a_folder_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> str:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "version", missing)
        assert len(recorder_digest()) == 12

    def test_equal_tapes_are_kept_once(self) -> None:
        assert keep_tape(make_tape(key_of())) == keep_tape(make_tape(key_of()))
        assert keep_tape(replace(make_tape(key_of()), versions={"torch": "2.12.0"})) != keep_tape(make_tape(key_of()))

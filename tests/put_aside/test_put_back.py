"""Whatever a script does to files that were there, they are there again afterwards: content, permissions and times."""

from __future__ import annotations

import os
import stat

import pytest
from tests.put_aside.world import World, run_all

HARM = {
    "write text": "Path('model.pt').write_text('x')",
    "open to write": "open('model.pt', 'w').close()",
    "open to append": "open('model.pt', 'a').write('x')",
    "open to change": "open('model.pt', 'r+b').write(b'x')",
    "open to read and write anew": "open('model.pt', 'w+').write('x')",
    "os.open and truncate": "os.write(os.open('model.pt', os.O_RDWR | os.O_TRUNC), b'x')",
    "os.open to read, and truncate": "os.open('model.pt', os.O_RDONLY | os.O_TRUNC)",
    "os.open in place": "os.pwrite(os.open('model.pt', os.O_RDWR), b'x', 5)",
    "truncate a name": "os.truncate('model.pt', 3)",
    "truncate an open file": "open('model.pt', 'r+b').truncate(3)",
    "rotation": "os.replace('model.pt', 'prev.pt'); Path('model.pt').write_text('x')",
    "rotation of three": "os.replace('prev.pt', 'older.pt'); os.replace('model.pt', 'prev.pt'); Path('model.pt').touch()",
    "rename and change what was renamed": "os.rename('model.pt', 'new.pt'); open('new.pt', 'r+b').write(b'x')",
    "rename and truncate what was renamed": "os.rename('model.pt', 'new.pt'); open('new.pt', 'wb').write(b'x')",
    "rename, change and rename back": (
        "os.rename('model.pt', 'new.pt'); open('new.pt', 'ab').write(b'x'); os.rename('new.pt', 'model.pt')"
    ),
    "temporary and replace": "Path('part').write_text('x'); os.replace('part', 'model.pt')",
    "temporary file of the library": (
        "name = tempfile.NamedTemporaryFile(dir='.', delete=False).name; os.replace(name, 'model.pt')"
    ),
    "remove": "os.remove('model.pt')",
    "unlink, then new": "Path('model.pt').unlink(); Path('model.pt').write_text('x')",
    "a folder in its place": "os.remove('model.pt'); os.mkdir('model.pt'); Path('model.pt/x').write_text('x')",
    "a link in its place": "os.remove('model.pt'); os.symlink('prev.pt', 'model.pt')",
    "remove a tree": "shutil.rmtree('ckpt')",
    "remove a tree, then new": "shutil.rmtree('ckpt'); os.makedirs('ckpt/deep'); Path('ckpt/deep/b.bin').write_text('x')",
    "a file in place of a tree": "shutil.rmtree('ckpt'); Path('ckpt').write_text('x')",
    "remove one by one": "os.remove('ckpt/deep/b.bin'); os.rmdir('ckpt/deep'); os.remove('ckpt/a.bin'); os.rmdir('ckpt')",
    "remove in an open folder": "os.remove('b.bin', dir_fd=os.open('ckpt/deep', os.O_RDONLY))",
    "rename a tree": "os.rename('ckpt', 'old')",
    "rename a tree, and change it there": "os.rename('ckpt', 'old'); open('old/deep/b.bin', 'ab').write(b'x')",
    "rename a tree twice, and remove it": "os.rename('ckpt', 'old'); os.rename('old', 'older'); shutil.rmtree('older')",
    "rename a part of a renamed tree": "os.rename('ckpt', 'old'); os.rename('old/deep', 'deep'); Path('deep/b.bin').unlink()",
    "rename over an empty folder": "os.rename('ckpt', 'empty')",
    "remove an empty folder": "os.rmdir('empty')",
    "move": "shutil.move('model.pt', 'ckpt/model.pt'); shutil.move('ckpt', 'empty')",
    "copy over": "shutil.copyfile('prev.pt', 'model.pt'); shutil.copy2('prev.pt', 'ckpt/a.bin')",
    "copy a tree over": "shutil.copytree('ckpt/deep', 'ckpt', dirs_exist_ok=True); Path('ckpt/b.bin').rename('model.pt')",
    "through a link": "Path('best.pt').write_text('x')",
    "over a link": "Path('part').write_text('x'); os.replace('part', 'best.pt')",
    "remove a link": "Path('best.pt').unlink()",
    "through a second name": "os.link('model.pt', 'second'); open('second', 'r+').write('x')",
    "through a second name, after removal": "os.link('model.pt', 'second'); os.remove('model.pt'); open('second', 'w').write('x')",
    "under another spelling": "os.chdir('ckpt'); Path('../ckpt/../model.pt').write_text('x'); os.remove(b'../prev.pt')",
    "permissions and times": "os.chmod('model.pt', 0o600); os.utime('prev.pt'); os.chmod('ckpt', 0o700)",
    "permissions, then content": "os.chmod('model.pt', 0o600); os.utime('model.pt'); Path('model.pt').write_text('x')",
    "permissions of an open file": "os.fchmod(os.open('model.pt', os.O_RDONLY), 0o600)",
    "json": "json.dump([], open('model.pt', 'w'))",
    "gzip": "gzip.open('model.pt', 'wb').write(b'x')",
    "zip": "zipfile.ZipFile('model.pt', 'w').writestr('x', 'x')",
    "tar": "tarfile.open('model.pt', 'w').add('prev.pt'); tarfile.open('ckpt/a.bin', 'w:gz').close()",
    "pickle, shelf": "pickle.dump(1, open('model.pt', 'wb'))",
    "sqlite": "db = sqlite3.connect('db'); db.execute('create table more (x)'); db.commit()",
    "sqlite by address": "db = sqlite3.connect('file:db?mode=rw', uri=True); db.execute('drop table t'); db.commit()",
    "numpy": "numpy.save(open('model.pt', 'wb'), numpy.zeros(3)); numpy.savez('prev.pt', x=numpy.zeros(3))",
    "memory map": "m = numpy.memmap('model.pt', mode='r+', dtype='u1'); m[:] = 0; m.flush()",
    "memory map anew": "m = numpy.memmap('model.pt', mode='w+', dtype='u1', shape=9); m[:] = 1; m.flush()",
    "mmap": "m = mmap.mmap(os.open('model.pt', os.O_RDWR), 0); m[:3] = b'xxx'; m.flush()",
    "to file": "numpy.zeros(3).tofile('model.pt')",
    "a fork": "pid = os.fork()\nif pid == 0:\n    Path('model.pt').write_text('x'); os._exit(0)\nos.waitpid(pid, 0)",
    "processes": "p = multiprocessing.get_context('fork').Process(target=os.remove, args=('model.pt',)); p.start(); p.join()",
    "threads": "with ThreadPoolExecutor() as pool: list(pool.map(lambda i: Path('model.pt').write_text(str(i)), range(40)))",
    "twice": "for i in range(3): Path('model.pt').write_text(str(i)); os.replace('model.pt', 'prev.pt')",
    "rights taken from the folder": "os.chmod('ckpt', 0o500); Path('ckpt/a.bin').write_text('x')",
}
HARM_IMPORTS = (
    "import os, shutil, json, gzip, zipfile, tarfile, pickle, sqlite3, numpy, mmap, tempfile, multiprocessing\n"
    "from concurrent.futures import ThreadPoolExecutor"
)


@pytest.fixture(scope="module", params=[False, True], ids=["guarded", "keep writes"])
def harmed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Every harm, done to a world of its own."""
    worlds = {how: World(tmp_path_factory.mktemp("world")) for how in HARM}
    for how, world in worlds.items():
        if "sqlite" in how:
            world.add_database()
    run_all({world: HARM[how] for how, world in worlds.items()}, HARM_IMPORTS, keep_writes=request.param)
    return worlds


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("harmed", [False], indirect=True)
def test_what_was_there_is_there_again(harmed: dict[str, World], how: str) -> None:
    world = harmed[how]
    report = world.put_back()
    assert world.after() == world.before
    assert report.restored or how == "through a second name"  # which is a file of its own as soon as it is written to
    assert not report.unguarded_files
    assert not report.not_restored
    assert not report.changed_unseen


@pytest.mark.parametrize("how", HARM)
@pytest.mark.parametrize("harmed", [True], indirect=True)
def test_keep_writes_leaves_the_effects(harmed: dict[str, World], how: str) -> None:
    world = harmed[how]
    left = world.after()
    report = world.put_back()
    assert world.after() == left != world.before
    assert not report.restored
    assert report.overwritten or report.removed or "permissions" in how


@pytest.mark.parametrize("how", ["rename a tree", "rotation of three", "move", "through a second name, after removal"])
def test_what_was_renamed_is_not_there_twice(world: World, how: str) -> None:
    world.run(HARM[how])
    world.put_back()
    assert [path for path in world.files.rglob("*") if path.is_file() and path.stat().st_nlink > 1] == []
    assert world.new() == ["second"] if "second" in how else world.new() == []


def test_a_kill_in_the_middle(world: World) -> None:
    world.run(
        "Path('model.pt').write_text('x'); shutil.rmtree('ckpt'); os.rename('prev.pt', 'p'); os.kill(os.getpid(), 9)",
        code=128 + 9,
    )
    report = world.put_back()
    assert world.after() == world.before
    assert sorted(report.restored) == ["ckpt/a.bin", "ckpt/deep/b.bin", "model.pt", "prev.pt"]


def test_an_end_without_a_word(world: World) -> None:
    world.run("Path('model.pt').write_text('x'); os._exit(7)", code=7)
    assert world.put_back().restored == ("model.pt",)
    assert world.after() == world.before


def test_putting_back_can_be_done_twice(world: World) -> None:
    world.run("Path('model.pt').write_text('x'); os.remove('prev.pt'); Path('new').touch()")
    first = world.put_back()
    (world.files / "model.pt").write_text("of today")
    assert world.put_back().restored == first.restored == ("model.pt", "prev.pt")
    assert (world.files / "model.pt").read_text() == "of today"


def test_being_killed_while_putting_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(HARM["rename a tree twice, and remove it"] + "; Path('model.pt').write_text('x'); os.remove('prev.pt')")
    calls = iter(range(100))
    replace = type(world.files).replace

    def killed(self: object, target: object) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return replace(self, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(type(world.files), "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            world.put_back()
    report = world.put_back()
    assert world.after() == world.before
    assert sorted(report.restored) == ["ckpt/a.bin", "ckpt/deep/b.bin", "model.pt", "prev.pt"]


def test_hard_links_of_the_user_stay_linked(world: World) -> None:
    os.link(world.files / "model.pt", world.files / "same.pt")
    world.run("Path('model.pt').write_text('x'); open('same.pt', 'a').write('y'); os.chmod('same.pt', 0o600)")
    world.put_back()
    assert (world.files / "model.pt").samefile(world.files / "same.pt")
    assert (world.files / "same.pt").stat().st_mode & 0o777 == 0o640
    assert world.after() == world.before


def test_the_script_sees_what_it_wrote(world: World) -> None:
    world.run(
        "Path('model.pt').write_text('one'); open('model.pt', 'a').write(' two')\n"
        "assert Path('model.pt').read_text() == 'one two'\n"
        "assert Path('model.pt').stat().st_mode & 0o777 == 0o640\n"
        "open('prev.pt', 'r+').write('X')\n"
        "assert Path('prev.pt').read_text().startswith('Xrecious prev.pt')\n"
        "os.rename('ckpt', 'old'); assert Path('old/a.bin').stat().st_size == 1900\n"
        "assert not Path('ckpt').exists(); os.mkdir('ckpt'); assert os.listdir('ckpt') == []\n"
        "assert sorted(os.listdir('.')) == ['best.pt', 'ckpt', 'empty', 'model.pt', 'old', 'prev.pt']\n"
    )


def test_errors_are_the_scripts_own(world: World) -> None:
    world.run(
        "from contextlib import suppress\n"
        "tried = 0\n"
        "for act in (lambda: open('model.pt', 'x'), lambda: os.rmdir('ckpt'), lambda: os.rename('model.pt', 'ckpt'),\n"
        "            lambda: os.rename('nothing', 'model.pt'), lambda: os.remove('ckpt'), lambda: open('x' * 300, 'w'),\n"
        "            lambda: open('nothing/x', 'w'), lambda: open('model.pt/x', 'w'), lambda: os.mkdir('ckpt'),\n"
        "            lambda: os.link('prev.pt', 'model.pt'), lambda: open('ckpt', 'w'), lambda: os.truncate('no', 1),\n"
        "            lambda: open('model.pt', 'w', encoding='bogus')):\n"
        "    try: act()\n"
        "    except (OSError, LookupError): tried += 1\n"
        "assert tried == 13, tried\n"
    )
    report = world.put_back()
    assert world.after() == world.before
    assert report.restored == ("model.pt",)  # the encoding is looked at when the file is empty already
    assert world.new() == []


def test_what_is_opened_and_left_as_it_was_is_not_told(world: World) -> None:
    world.run("open('model.pt', 'a').close(); open('prev.pt', 'r+b').close()")
    report = world.put_back()
    assert report.sentences() == []
    assert world.after() == world.before


def test_new_files_stay(world: World) -> None:
    world.run(
        "os.mkdir('run'); Path('run/log').write_text('x'); Path('part').write_text('y'); os.replace('part', 'final')\n"
        "Path('gone').touch(); os.remove('gone'); Path('tmp').mkdir(); Path('tmp/w').touch(); os.rename('tmp', 'done')\n"
        "os.symlink('model.pt', 'link')"
    )
    report = world.put_back()
    assert world.new() == ["done", "done/w", "final", "link", "run", "run/log"]
    assert report.written == ("run/log", "final", "link", "done/w")
    assert report.restored == ()


def test_nothing_is_left_of_the_originals(world: World) -> None:
    world.run(HARM["rotation"] + "; shutil.rmtree('ckpt')")
    assert list((world.store / "originals").iterdir())
    world.put_back()
    assert not (world.store / "originals").exists()


def test_a_file_keeps_its_inode(world: World) -> None:
    before = {name: (world.files / name).lstat().st_ino for name in ("model.pt", "prev.pt", "ckpt/a.bin", "best.pt")}
    world.run(
        "Path('model.pt').write_text('x'); open('prev.pt', 'a').write('x'); shutil.rmtree('ckpt'); os.remove('best.pt')"
    )
    world.put_back()
    assert {name: (world.files / name).lstat().st_ino for name in before} == before


def test_pipes_and_devices_are_left_alone(world: World) -> None:
    os.mkfifo(world.files / "pipe")
    world.run("os.open('pipe', os.O_RDWR | os.O_NONBLOCK); open('/dev/null', 'w').write('x'); os.remove('pipe')")
    report = world.put_back()
    assert stat.S_ISFIFO((world.files / "pipe").stat().st_mode)
    assert report.restored == ("pipe",)
    assert report.written == ()

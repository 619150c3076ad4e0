"""What writing a file leaves as it was: links, modes, owners, devices; all, where it fails."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fastconv.errors import DataNotFound, FastconvError, WriteFailed
from fastconv.io import load_params, save_params
from fastconv.io.atomic import append_to_file, make_folder, replace_file

from .conftest import ROOT
from .limits import largest_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and limits of POSIX")
ROOT_HERE = sys.platform != "win32" and os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT_HERE, reason="only root makes devices and other owners")
not_for_root = pytest.mark.skipif(ROOT_HERE, reason="root may write to everything")
linux = pytest.mark.skipif(sys.platform != "linux", reason="attributes and /proc of Linux")


def write(path, content=b"new"):
    with replace_file(path) as file:
        file.write(content)


NOBODY = 65534


@contextmanager
def nobody():
    """The body runs as a user with no rights of its own."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place():
    """A folder that every user can reach, as pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"old")
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def alone(path: Path) -> bool:
    """Whether nothing temporary is left beside the file."""
    return names(path.parent) == [path.name]


# ---- what is there already ----------------------------------------------------------


def test_a_new_file_has_the_mode_that_open_gives(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from fastconv.io.atomic import replace_file\n"
        "os.umask(int(sys.argv[1], 8))\n"
        "with replace_file('ours') as file: pass\n"
        "Path('opens').write_bytes(b'')\n"
    )
    for umask, mode in (("077", 0o600), ("022", 0o644), ("002", 0o664), ("000", 0o666)):
        folder = tmp_path / umask
        folder.mkdir()
        command = [sys.executable, "-c", code, umask]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, check=True, timeout=60)
        modes = {stat.S_IMODE((folder / name).stat().st_mode) for name in ("ours", "opens")}
        assert modes == {mode}


def test_the_umask_is_never_touched(tmp_path, monkeypatch):
    """Another thread's file would be made with what it is for a moment."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process's"))
    write(tmp_path / "new")
    write(tmp_path / "new")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o755])
def test_the_mode_stays(old, mode):
    old.chmod(mode)
    before = old.stat().st_ino
    write(old)
    assert old.read_bytes() == b"new" and alone(old)
    assert stat.S_IMODE(old.stat().st_mode) == mode
    assert old.stat().st_ino != before  # a new file, not the old one in its halves


def test_what_only_the_owner_reads_is_never_open_to_others(old, monkeypatch):
    """Not even for a moment: whoever opened the file then could read all that is written later."""
    modes, change = [], os.fchmod

    def fchmod(descriptor, mode):
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        change(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", fchmod)
    old.chmod(0o600)
    write(old)
    assert [*modes, stat.S_IMODE(old.stat().st_mode)] == [0o600, 0o600]


@as_root
def test_the_owner_stays(old):
    os.chown(old, 12345, 23456)
    old.chmod(0o4750)
    write(old)
    assert (old.stat().st_uid, old.stat().st_gid) == (12345, 23456)
    assert stat.S_IMODE(old.stat().st_mode) == 0o4750


@as_root
@pytest.mark.parametrize("folder_mode", [0o777, 0o1777, 0o755])
def test_a_file_of_another_owner_that_anybody_may_write_is_overwritten(place, folder_mode):
    """Other users than root can neither change its owner nor, perhaps, make a file beside it."""
    path = place / "w.npz"
    path.write_bytes(b"much longer than what comes")
    path.chmod(0o666)
    place.chmod(folder_mode)
    before = path.stat()
    with nobody():
        write(path)
    after = path.stat()
    assert path.read_bytes() == b"new" and alone(path)
    same = ("st_ino", "st_uid", "st_gid", "st_mode")
    assert [getattr(after, fact) for fact in same] == [getattr(before, fact) for fact in same]


@linux
def test_extended_attributes_stay(old):
    try:
        os.setxattr(old, "user.note", b"kept by hand")
    except OSError:
        pytest.skip("a file system without extended attributes")
    write(old)
    assert old.read_bytes() == b"new"
    assert os.getxattr(old, "user.note") == b"kept by hand"


def test_all_names_of_a_file_see_what_is_written(old, tmp_path):
    other = tmp_path / "other name"
    os.link(old, other)
    write(old, b"x" * 5000)
    assert other.read_bytes() == b"x" * 5000
    assert old.stat().st_nlink == 2
    write(other, b"less")
    assert old.read_bytes() == b"less"
    assert names(tmp_path) == ["other name", "weights.npz"]


def test_a_link_stays_and_what_it_leads_to_is_written(old, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "first").symlink_to("second")
    (place / "second").symlink_to(old)
    write(place / "first")
    assert old.read_bytes() == b"new"
    assert (place / "first").readlink() == Path("second")
    assert (place / "second").readlink() == old
    assert names(place) == ["first", "second"]


def test_a_link_to_nothing_yet_makes_the_file_it_names(tmp_path):
    (tmp_path / "place").mkdir()
    link = tmp_path / "link"
    link.symlink_to("place/w.npz")
    write(link)
    assert link.is_symlink() and (tmp_path / "place" / "w.npz").read_bytes() == b"new"
    link.unlink()
    link.symlink_to("nowhere/w.npz")
    with pytest.raises(DataNotFound, match=r"link: no folder .*nowhere to write it to"):
        write(link)


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(WriteFailed) as caught:
        write(tmp_path / "a")
    assert caught.value.errno == errno.ELOOP
    assert names(tmp_path) == ["a", "b"]


@as_root
@linux
def test_a_device_is_written_to(tmp_path):
    null = tmp_path / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    try:
        write(null)
    except WriteFailed as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            pytest.skip("a file system that opens no devices")
        raise
    assert null.is_char_device()
    assert names(tmp_path) == ["null"]


@linux
def test_a_device_that_is_full_says_so(full_device):
    told = rf"^{full_device}: not written: No space left on device; make room there"
    with pytest.raises(WriteFailed, match=told) as caught:
        write(full_device, b"x" * 100_000)
    assert caught.value.errno == errno.ENOSPC
    assert full_device.is_char_device()


def test_a_pipe_is_written_to(tmp_path):
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    # It would wait for ever at the other end of a pipe that was replaced.
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe, b"x" * 300_000)  # more than a pipe holds
    reader.join(timeout=60)
    assert got == [b"x" * 300_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode) and alone(pipe)


@linux
def test_the_files_that_the_shell_sends_our_output_to_stay_the_same(tmp_path):
    code = (
        "from fastconv.io.atomic import replace_file\n"
        "with replace_file('/dev/stdout') as file: file.write(b'new')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(command, stdout=out, env=environment, check=True, timeout=60)
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino
    assert (tmp_path / "out").read_bytes() == b"new"
    done = subprocess.run(command, stdout=-1, env=environment, check=True, timeout=60)
    assert done.stdout == b"new"


@not_for_root
def test_a_file_that_may_not_be_written_is_refused(old):
    old.chmod(0o444)
    with pytest.raises(WriteFailed, match="expected a place that this user may write") as caught:
        write(old)
    assert caught.value.errno == errno.EACCES
    assert old.read_bytes() == b"old" and alone(old)


@as_root
def test_a_file_that_may_not_be_written_is_refused_to_others_than_root(place):
    path = place / "w.npz"
    path.write_bytes(b"old")
    path.chmod(0o444)
    os.chown(path, NOBODY, NOBODY)
    place.chmod(0o777)
    with nobody(), pytest.raises(WriteFailed, match="expected a place that this user") as caught:
        write(path)
    assert caught.value.errno == errno.EACCES
    assert path.read_bytes() == b"old" and alone(path)


@as_root
def test_a_folder_that_takes_no_files_is_an_error(place):
    place.chmod(0o755)
    with nobody(), pytest.raises(WriteFailed, match="expected a place that this user") as caught:
        write(place / "w.npz")
    assert caught.value.errno == errno.EACCES and names(place) == []


def test_a_folder_in_its_place_is_an_error(tmp_path):
    (tmp_path / "w.npz").mkdir()
    with pytest.raises(WriteFailed, match="Is a directory; name a file in it") as caught:
        write(tmp_path / "w.npz")
    assert caught.value.errno == errno.EISDIR and alone(tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["ん" * 85, "x" * 255, "w\udcff" * 100])
def test_names_as_long_as_a_file_system_takes(tmp_path, name):
    path = tmp_path / name
    write(path)
    write(path, b"again")
    assert path.read_bytes() == b"again" and alone(path)


def test_a_longer_name_is_an_error_that_says_so(tmp_path):
    with pytest.raises(WriteFailed, match=r"not written: .*; give it a shorter name"):
        write(tmp_path / ("x" * 256))
    assert names(tmp_path) == []


def test_threads_that_write_one_file_leave_a_whole_one(tmp_path):
    path = tmp_path / "w.npz"
    contents = [bytes([65 + number]) * 100_000 for number in range(6)]

    def save(content):
        for _ in range(4):
            write(path, content)

    threads = [threading.Thread(target=save, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents and alone(path)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_a_file_whose_name_cannot_be_given_to_another_is_overwritten(old, monkeypatch, number):
    """One that is mounted by itself, as containers do; one that is held open on Windows."""

    def refuse(source, target):
        raise OSError(number, os.strerror(number), source, None, target)

    monkeypatch.setattr(os, "replace", refuse)
    before = old.stat().st_ino
    write(old, b"new and longer")
    assert old.read_bytes() == b"new and longer"
    assert old.stat().st_ino == before and alone(old)


# ---- where it fails -----------------------------------------------------------------


def savers():
    """Each kind of file that is written, with a writer of more than 5,000 bytes of it."""
    arrays = {"W1": np.random.default_rng(0).standard_normal((100, 100))}

    def picture(path):
        pytest.importorskip("matplotlib")
        from fastconv import figures

        figures.save(figures.confusion(np.arange(4).reshape(2, 2), ["cat", "dog"]), path)

    def onnx(path):
        pytest.importorskip("onnx")
        from fastconv.io import export_onnx
        from fastconv.models import lenet

        export_onnx(lenet(seed=0), path)

    def safetensors(path):
        pytest.importorskip("safetensors")
        save_params(path, arrays)

    return {
        "w.npz": lambda path: save_params(path, arrays),
        "w.safetensors": safetensors,
        "w.pkl": lambda path: save_params(path, arrays, allow_pickle=True),
        "m.onnx": onnx,
        "p.png": picture,
    }


@pytest.mark.parametrize("name", savers())
@pytest.mark.parametrize("linked", [False, True])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, name, linked):
    path, save = tmp_path / name, savers()[name]
    path.write_bytes(b"old")
    if linked:  # cannot be replaced: room is taken before it is overwritten
        os.link(path, tmp_path / "other name")
    save(tmp_path / f"warm-{name}")  # fonts and the like are read, and kept, now
    (tmp_path / f"warm-{name}").unlink()
    with largest_file(5000), pytest.raises(WriteFailed) as caught:
        save(path)
    error = caught.value
    assert (error.errno, error.filename) == (errno.EFBIG, str(path))
    told = "not written: File too large; make room there, or name another place"
    assert str(error) == f"{path}: {told}"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == sorted([name] + ["other name"] * linked)


def test_the_error_is_of_the_types_that_a_caller_would_catch(tmp_path):
    with pytest.raises(OSError) as caught:
        write(tmp_path)
    assert isinstance(caught.value, FastconvError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.errno, again.filename) == (
        str(caught.value),
        caught.value.errno,
        caught.value.filename,
    )


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_that_come_late_leave_nothing(tmp_path, monkeypatch, call, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(WriteFailed, match=r"w.npz: not written: ") as caught:
        write(tmp_path / "w.npz")
    assert caught.value.errno == number and names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_errors_of_the_writer_go_on_their_way(old, error):
    with pytest.raises(error, match="mine"), replace_file(old) as file:
        file.write(b"half of it")
        raise error("mine")
    assert old.read_bytes() == b"old" and alone(old)


def test_a_file_that_was_overwritten_in_part_is_said_to_be_damaged(old, tmp_path, monkeypatch):
    os.link(old, tmp_path / "other name")

    def fail(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteFailed, match="overwritten in part, and damaged now: Input/output"):
        write(old)


def test_appending_is_all_or_nothing(tmp_path):
    path = tmp_path / "history.jsonl"
    append_to_file(path, b"first\n")
    with (
        largest_file(10),
        pytest.raises(WriteFailed, match=r"jsonl: not written: File too"),
    ):
        append_to_file(path, b"second\n")
    assert path.read_bytes() == b"first\n"
    append_to_file(path, b"third\n")
    assert path.read_bytes() == b"first\nthird\n"


def test_folders_that_cannot_be_made(tmp_path, old):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(WriteFailed, match=r"weights.npz: the folder was not made: File exists"):
        make_folder(old)
    with pytest.raises(WriteFailed, match="inside: the folder was not made: Not a directory"):
        make_folder(old / "inside")


def test_weights_through_a_link_read_back(tmp_path):
    (tmp_path / "place").mkdir()
    link = tmp_path / "latest.npz"
    link.symlink_to("place/run-1.npz")
    save_params(link, {"W1": np.arange(3.0)})
    assert link.is_symlink()
    np.testing.assert_array_equal(load_params(tmp_path / "place" / "run-1.npz")["W1"], [0, 1, 2])


# ---- what the message says ------------------------------------------------------------


def test_an_error_without_a_number_is_one_of_input_and_output(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError("the drive has gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteFailed) as caught:
        write(tmp_path / "w.npz")
    path = str(tmp_path / "w.npz")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, path)
    assert str(caught.value) == f"{path}: not written: the drive has gone"


def test_a_file_of_another_folder_that_failed_meanwhile_is_named(old, tmp_path):
    """What was to be read may be what is missing, and not the place to write to."""
    source = tmp_path / "other" / "source.npz"
    for path, named in ((source, f": {source}"), (tmp_path / "beside.npz", "")):
        with pytest.raises(WriteFailed) as caught, replace_file(old):
            path.read_bytes()
        assert str(caught.value) == f"{old}: not written: No such file or directory{named}"
        assert caught.value.errno == errno.ENOENT
        assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert old.read_bytes() == b"old" and alone(old)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EFBIG, "make room there"),
        (errno.EACCES, "expected a place that this user may write to"),
        (errno.EPERM, "expected a place that this user may write to"),
        (errno.EROFS, "expected a place that this user may write to"),
        (errno.EISDIR, "name a file in it"),
        (errno.ENAMETOOLONG, "give it a shorter name"),
        (errno.EIO, ""),
    ],
)
def test_the_remedy_by_the_number(tmp_path, monkeypatch, number, remedy):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteFailed) as caught:
        write(tmp_path / "w.npz")
    _, _, rest = str(caught.value).partition(f": not written: {os.strerror(number)}")
    assert rest.startswith(f"; {remedy}") if remedy else rest == ""


# ---- room for what is overwritten -------------------------------------------------------


@linux
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_file_that_cannot_grow_stays_as_it_was(old, tmp_path, monkeypatch, number):
    os.link(old, tmp_path / "other name")

    def fail(descriptor, offset, length):
        os.ftruncate(descriptor, offset + length // 2)  # some systems have taken a part by then
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(WriteFailed) as caught:
        write(old, b"longer than before")
    assert caught.value.errno == number and "damaged" not in str(caught.value)
    assert old.read_bytes() == b"old"


@linux
def test_room_is_asked_for_only_where_a_file_grows(old, tmp_path, monkeypatch):
    """And a file system that cannot give it beforehand is no reason not to write."""
    os.link(old, tmp_path / "other name")
    asked = []

    def fail(descriptor, offset, length):
        asked.append((offset, length))
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    for content, wanted in ((b"longer", [(3, 3)]), (b"equal.", []), (b"less", [])):
        asked.clear()
        write(old, content)
        assert old.read_bytes() == content and asked == wanted


@linux
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_file_that_a_stream_goes_to_is_written_into(tmp_path, stream):
    """A file in its place would leave the shell's stream to one without a name."""
    code = (
        "import sys; from fastconv.io.atomic import replace_file\n"
        "with replace_file('out') as file: file.write(b'new')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            check=True,
            timeout=60,
            **{stream: out},
        )
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino
    assert (tmp_path / "out").read_bytes() == b"new" and alone(tmp_path / "out")


def test_what_was_written_can_be_read_back_before_it_is_in_place(old, tmp_path):
    os.link(old, tmp_path / "other name")
    for path in (old, tmp_path / "new"):
        with replace_file(path) as file:
            file.write(b"12345")
            file.seek(1)
            assert file.read(3) == b"234"
        assert path.read_bytes() == b"12345"


def test_a_part_that_was_appended_is_taken_back(tmp_path, monkeypatch):
    """Whatever ends it: also Ctrl-C, after a write of some bytes."""
    path = tmp_path / "history.jsonl"
    append_to_file(path, b"first\n")
    opened = Path.open

    class Slow:
        def __init__(self, file):
            self.file, self.times = file, 0

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.times += 1
            if self.times > stop:
                raise KeyboardInterrupt
            return self.file.write(data[:2])

    monkeypatch.setattr(Path, "open", lambda *a, **k: Slow(opened(*a, **k)))
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        append_to_file(path, b"second\n")
    assert path.read_bytes() == b"first\n"
    stop = 99
    append_to_file(path, b"third\n")
    append_to_file(path, b"")
    assert path.read_bytes() == b"first\nthird\n"


def test_a_folder_that_is_missing_is_named_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataNotFound, match=r"^nowhere/w\.npz: no folder nowhere to write it to$"):
        write("nowhere/w.npz")


@linux
def test_attributes_that_the_folder_gives_go_and_those_of_the_file_come(old, monkeypatch):
    """As access control lists do that a folder hands on: the old file may have had none."""
    changes = []
    held = {True: {"given": b"1", "both": b"2"}, False: {"both": b"2", "kept": b"3"}}
    monkeypatch.setattr(os, "listxattr", lambda file: list(held[isinstance(file, int)]))
    monkeypatch.setattr(os, "getxattr", lambda file, name: held[isinstance(file, int)][name])
    monkeypatch.setattr(os, "removexattr", lambda file, name: changes.append((name,)))
    monkeypatch.setattr(os, "setxattr", lambda file, *what: changes.append(what))
    write(old)
    assert changes == [("given",), ("kept", b"3")]
    assert old.read_bytes() == b"new"

"""Files and folders are written whole, nothing of anybody else is touched, and killed saves leave nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from headwise.errors import InputError
from headwise.files import check_name, filling, replacing
from headwise.folders import MARK, check_folder, replace_folder

FIRST = {"index.html": "one", "data-1/a.js": "1", "data-1/b.js": "2"}
SECOND = {"index.html": "two", "data-2/a.js": "3"}


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def written(folder: Path, files: dict[str, str]) -> None:
    replace_folder(folder, files, kind="report", entry="index.html")


class TestFiles:
    def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("old")
        with pytest.raises(TypeError), replacing(tmp_path / "a") as part:
            part.write_text("half" + 1)  # type: ignore[operator]
        assert tree(tmp_path) == {"a": "old"}

    @pytest.mark.parametrize("name", ["a" * 255, "\N{GREEK SMALL LETTER ALPHA}" * 127, ".hidden", "a b"])
    def test_every_name_that_a_file_may_have(self, tmp_path: Path, name: str) -> None:
        with replacing(tmp_path / name) as part:
            part.write_text("whole")
        assert tree(tmp_path) == {name: "whole"}

    @pytest.mark.parametrize(
        ("name", "said"),
        [("a" * 256, "more than 255 bytes"), ("a\0", "no name of a file"), ("\ud800", "no name of a file")],
    )
    def test_names_that_no_file_may_have(self, tmp_path: Path, name: str, said: str) -> None:
        for writing in (replacing, filling):
            with pytest.raises(InputError, match=said), writing(tmp_path / name):
                raise AssertionError("the block must not begin")
        assert tree(tmp_path) == {}

    def test_what_a_killed_save_left_goes_with_the_next_save_to_the_name(self, tmp_path: Path) -> None:
        child = (
            "import sys, time; from headwise.files import filling, replacing\n"
            "with replacing(sys.argv[1]) as part, filling(sys.argv[2]) as folder:\n"
            "    part.write_text('half'); (folder / 'x').write_text('half'); print('go', flush=True); time.sleep(60)"
        )
        names = [str(tmp_path / "a"), str(tmp_path / "b")]
        process = subprocess.Popen([sys.executable, "-c", child, *names], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with replacing(names[0]) as part:  # it is still being written: nothing of it is touched
            part.write_text("whole")
        assert len(list(tmp_path.glob(".headwise-*.part"))) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with replacing(names[0]) as part:
            part.write_text("whole")
        assert len(list(tmp_path.glob(".headwise-*.part"))) == 1  # that of the other name
        with filling(names[1]) as folder:
            assert folder is not None
            (folder / "x").write_text("whole")
        assert tree(tmp_path) == {"a": "whole", "b/x": "whole"}

    def test_many_writers_of_one_name(self, tmp_path: Path) -> None:
        def save(number: int) -> None:
            for _ in range(20):
                with replacing(tmp_path / "a") as part:
                    part.write_text(str(number) * 1000)

        threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(tree(tmp_path)) == ["a"]
        assert len(set(tree(tmp_path)["a"])) == 1

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
    def test_a_pipe_is_neither_waited_for_nor_removed(self, tmp_path: Path) -> None:
        key = hashlib.sha256(b"a.json").hexdigest()[:12]
        leftover, pipe = tmp_path / f".headwise-{key}-deadbeef.part", tmp_path / "pipe"
        os.mkfifo(leftover)
        os.mkfifo(pipe)
        with replacing(tmp_path / "a.json") as part:
            part.write_text("whole")
        assert (tmp_path / "a.json").read_text() == "whole"
        with pytest.raises(InputError, match="is no file"), replacing(pipe):
            pass
        assert pipe.is_fifo()

    def test_the_permissions_of_a_file_stay(self, tmp_path: Path) -> None:
        mine = tmp_path / "a.json"
        mine.write_text("old")
        mine.chmod(0o600)
        with replacing(mine) as part:
            part.write_text("new")
        assert (mine.read_text(), mine.stat().st_mode & 0o777) == ("new", 0o600)

    def test_links_that_go_round(self, tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        for writing in (replacing, filling):
            with pytest.raises(InputError, match="leads nowhere"), writing(tmp_path / "a"):
                pass

    def test_a_link_of_somebody_else_leads_to_nothing_of_mine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine").write_text("mine")
        (tmp_path / "theirs").symlink_to("mine")
        monkeypatch.setattr(os, "geteuid", lambda: os.lstat(tmp_path / "theirs").st_uid + 1)
        for check in (
            lambda: check_name(tmp_path / "theirs"),
            lambda: replacing(tmp_path / "theirs").__enter__(),
        ):
            with pytest.raises(InputError, match="link of somebody else"):
                check()
        assert (tmp_path / "mine").read_text() == "mine"

    def test_a_folder_with_a_name_that_is_too_long(self, tmp_path: Path) -> None:
        with (
            pytest.raises(InputError, match="folder to write into does not exist"),
            replacing(tmp_path / ("a" * 300) / "x"),
        ):
            pass


class TestFolders:
    def test_a_folder_of_ours_is_brought_up_to_date(self, tmp_path: Path) -> None:
        folder = tmp_path / "r"
        for files in (FIRST, SECOND, SECOND, FIRST):
            written(folder, files)
            assert {name: text for name, text in tree(folder).items() if name != MARK} == files
        assert not (folder / "data-2").exists()

    @pytest.mark.parametrize(
        "strange", ["thesis.txt", "data-1/results.csv", "data/a.js", ".git/config", "index.html.bak"]
    )
    def test_a_folder_with_anything_else_is_left_alone(self, tmp_path: Path, strange: str) -> None:
        folder = tmp_path / "r"
        written(folder, FIRST)
        (folder / strange).parent.mkdir(exist_ok=True)
        (folder / strange).write_text("mine")
        before = tree(folder)
        with pytest.raises(InputError, match="did not write"):
            written(folder, SECOND)
        assert tree(folder) == before

    @pytest.mark.parametrize(
        "mark",
        [
            *(None, "{}", "[1]", '{"kind": "report"}', '{"kind": "other", "files": {}}'),
            *(
                '{"kind": "report", "files": ["index.html"]}',
                '{"kind": "report", "files": {"index.html": 1}}',
            ),
        ],
    )
    def test_a_folder_without_our_mark_is_left_alone(self, tmp_path: Path, mark: str | None) -> None:
        folder = tmp_path / "site"
        (folder / "data").mkdir(parents=True)
        (folder / "index.html").write_text("mine")
        (folder / "data" / "results.csv").write_text("mine")
        if mark is not None:
            (folder / MARK).write_text(mark)
        before = tree(folder)
        for call in (lambda: written(folder, FIRST), lambda: check_folder(folder, kind="report")):
            with pytest.raises(InputError, match="not written by headwise"):
                call()
        assert tree(folder) == before

    @pytest.mark.parametrize("name", ["./index.html", "index.html/", "data//x.js", "data/./x.js"])
    def test_a_mark_names_files_as_they_are_written(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "report"
        folder.mkdir()
        (folder / MARK).write_text(
            json.dumps({"written by": "headwise", "kind": "report", "files": {name: []}})
        )
        with pytest.raises(InputError, match="was not written by headwise"):
            replace_folder(folder, FIRST, kind="report", entry="index.html")

    def test_a_mark_cannot_lead_outside(self, tmp_path: Path) -> None:
        folder, mine = tmp_path / "r", tmp_path / "mine.txt"
        mine.write_text("mine")
        written(folder, FIRST)
        for name in ("../mine.txt", str(mine)):
            digest = hashlib.sha256(b"mine").hexdigest()
            (folder / MARK).write_text(
                json.dumps({"kind": "report", "files": {"index.html": [], name: [digest]}})
            )
            with pytest.raises(InputError, match="not written by headwise"):
                written(folder, SECOND)
        assert mine.read_text() == "mine"

    @pytest.mark.parametrize("name", FIRST)
    def test_a_file_that_was_changed_since_is_left_alone(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / "r"
        written(folder, FIRST)
        (folder / name).write_text("mine")
        before = tree(folder)
        for call in (lambda: written(folder, SECOND), lambda: check_folder(folder, kind="report")):
            with pytest.raises(InputError, match=f"changed after headwise wrote it.*{name}"):
                call()
        assert tree(folder) == before

    def test_the_mark_of_a_stranger_gives_nothing_away(self, tmp_path: Path) -> None:
        """It names what the user has, and cannot know what is in it."""
        mine, folder = tmp_path / "mine", tmp_path / "r"
        written(folder, FIRST)
        mine.mkdir()
        for name in FIRST:
            (mine / name).parent.mkdir(exist_ok=True)
            (mine / name).write_text("mine")
        (mine / MARK).write_text((folder / MARK).read_text())
        before = tree(mine)
        with pytest.raises(InputError, match="changed after headwise wrote it"):
            written(mine, SECOND)
        assert tree(mine) == before

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "a.js").write_text("mine")
        folder = tmp_path / "r"
        written(folder, {"index.html": "one", "data-1/a.js": "1"})
        (folder / "data-1" / "a.js").unlink()
        (folder / "data-1").rmdir()
        (folder / "data-1").symlink_to(mine)
        with pytest.raises(InputError, match="did not write"):
            written(folder, SECOND)
        assert tree(mine) == {"a.js": "mine"}

    def test_a_mark_that_names_what_lies_behind_a_link(self, tmp_path: Path) -> None:
        folder, mine = tmp_path / "r", tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis.txt").write_text("mine")
        written(folder, FIRST)
        (folder / "d").symlink_to(mine)
        digests = [hashlib.sha256(b"mine").hexdigest()]
        names = dict.fromkeys((*FIRST, "d", "d/thesis.txt"), digests)
        (folder / MARK).write_text(json.dumps({"kind": "report", "files": names}))
        with pytest.raises(InputError, match="did not write"):
            written(folder, {**SECOND, "d/new.js": "ours"})
        assert tree(mine) == {"thesis.txt": "mine"}

    def test_there_is_no_moment_without_a_whole_page(self, tmp_path: Path) -> None:
        folder = tmp_path / "r"
        written(folder, FIRST)
        stop, torn = threading.Event(), []

        def read() -> None:
            while not stop.is_set():
                page = (folder / "index.html").read_text()
                if page not in ("one", "two"):
                    torn.append(page)

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(40):
            written(folder, (FIRST, SECOND)[number % 2])
        stop.set()
        reader.join()
        assert torn == []

    def test_what_a_killed_update_left_does_not_stay(self, tmp_path: Path) -> None:
        folder = tmp_path / "r"
        written(folder, SECOND)
        for place in (folder, folder / "data-2"):
            (place / ".headwise-0123456789ab-01234567.part").write_text("")
        written(folder, FIRST)
        assert {name: text for name, text in tree(folder).items() if name != MARK} == FIRST

    def test_a_killed_update_can_be_done_again(self, tmp_path: Path) -> None:
        child = (
            "import sys; from pathlib import Path; from headwise.folders import replace_folder\n"
            f"pages = ({FIRST!r}, {SECOND!r})\n"
            "print('go', flush=True)\n"
            "for number in range(10**6):\n"
            "    replace_folder(Path(sys.argv[1]), pages[number % 2], kind='report', entry='index.html')"
        )
        folder = tmp_path / "r"
        written(folder, FIRST)
        for number in range(6):
            process = subprocess.Popen([sys.executable, "-c", child, str(folder)], stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.02 + 0.011 * number)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            process.stdout.close()
            page = {"one": FIRST, "two": SECOND}[(folder / "index.html").read_text()]
            assert page.items() <= tree(folder).items()
            written(folder, FIRST)
            assert {name: text for name, text in tree(folder).items() if name != MARK} == FIRST

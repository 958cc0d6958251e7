"""Files are found, fetched and refused as they should be, from a real server on this machine."""

from __future__ import annotations

import hashlib
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from specdyn.tasks.datasets import WrongFile, describe, fetch
from specdyn.tasks.datasets.fetch import reading

CONTENT = bytes(range(256)) * 40
ROW = """
[small]
title = "Small"
version = "1"
licence = "none"
copyright = "nobody"
home = "https://example.org/small"
note = "Bytes."
"""


def row(*urls: str, name: str = "small/data.bin", hashed: bool = True) -> str:
    digest = f'hash = "sha256:{hashlib.sha256(CONTENT).hexdigest()}"\nbytes = {len(CONTENT)}' if hashed else ""
    return f'{ROW}[[small.forms]]\n[[small.forms.files]]\nname = "{name}"\nurls = {list(urls)}\n{digest}\n'


def kept(folder: Path) -> set[str]:
    """Files below a folder, save locks."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}


def content(name: str = "small") -> bytes:
    with reading(name) as files:
        return files["data.bin"].read_bytes()


def test_a_file_is_downloaded_once(server, registered, cache) -> None:
    registered(row(server.add("/good", CONTENT)))
    assert content() == content() == CONTENT
    assert server.asked == ["/good"]
    assert kept(cache) == {"small/data.bin"}


def test_an_md5_is_as_good_where_the_publisher_has_no_more(server, registered, cache) -> None:
    text = row(server.add("/good", CONTENT), hashed=False)
    registered(text + f'hash = "md5:{hashlib.md5(CONTENT).hexdigest()}"\n')
    assert content() == CONTENT
    server.add("/good", CONTENT[::-1])
    (cache / "small" / "data.bin").unlink()
    with pytest.raises(FileNotFoundError, match="checksum"):
        content()


def test_mirrors_are_tried_in_order_until_one_is_whole(server, registered, cache) -> None:
    registered(
        row(
            server.add("/gone", b"", status=404),
            server.add("/broken", b"down", status=503),
            server.add("/corrupt", CONTENT[:-1] + b"x"),
            server.add("/short", CONTENT[:100]),
            server.add("/cut", CONTENT[:-1], promised=len(CONTENT)),
            server.add("/good", CONTENT),
            server.add("/never", CONTENT),
        )
    )
    assert content() == CONTENT
    assert server.asked == ["/gone", "/broken", "/corrupt", "/short", "/cut", "/good"]
    assert kept(cache) == {"small/data.bin"}


def test_where_all_mirrors_fail_the_error_says_everything_and_nothing_is_kept(server, registered, cache) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/data"
    urls = [closed, server.add("/gone", b"", status=404), server.add("/corrupt", CONTENT[::-1])]
    urls.append(server.add("/cut", CONTENT[:-1], promised=len(CONTENT)))
    registered(row(*urls))
    with pytest.raises(FileNotFoundError) as caught:
        content()
    assert str(caught.value).splitlines() == [
        "Small: small/data.bin (0.01 MB) is not on this machine and could not be downloaded:",
        f"  {urls[0]}: no connection",
        f"  {urls[1]}: 404 Not Found",
        f"  {urls[2]}: not the publisher's file: its checksum is another",
        f"  {urls[3]}: the connection broke off",
        f"Put it at {cache / 'small/data.bin'}, or as small/data.bin in a folder of yours that SPECDYN_DATA names",
    ]
    assert kept(cache) == set()


def test_a_local_mirror_is_enough_and_is_left_as_it_is(server, registered, mirror, cache) -> None:
    (mirror / "small").mkdir()
    (mirror / "small" / "data.bin").write_bytes(CONTENT)
    before = {path: path.stat().st_mtime_ns for path in mirror.rglob("*")}
    registered(row(server.add("/good", CONTENT)))
    assert content() == CONTENT
    assert server.asked == []
    assert {path: path.stat().st_mtime_ns for path in mirror.rglob("*")} == before
    assert not cache.exists()


@pytest.mark.parametrize("wrong", [b"", CONTENT[:-1], CONTENT[::-1]], ids=["empty", "truncated", "another"])
def test_a_wrong_file_in_a_local_mirror_is_refused_and_not_touched(server, registered, mirror, wrong: bytes) -> None:
    path = mirror / "small" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(wrong)
    registered(row(server.add("/good", CONTENT)))
    with pytest.raises(WrongFile, match=f"{path} .*Put the publisher's there"):
        content()
    assert path.read_bytes() == wrong


@pytest.mark.parametrize("place", ["cache/../mine", "cache/mine", "cache", ".", "link"])
def test_a_users_own_file_stays_wherever_the_folder_lies(
    server, registered, cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cache.mkdir()
    (cache / "mine").mkdir()
    (tmp_path / "link").symlink_to(cache / "mine")
    path = tmp_path / place / "small" / "data.bin"
    path.resolve().parent.mkdir(parents=True)
    path.write_bytes(CONTENT[::-1])
    monkeypatch.setenv("SPECDYN_DATA", str(tmp_path / place))
    registered(row(server.add("/good", CONTENT)))
    with pytest.raises(WrongFile, match="Put the publisher's there"):
        content()
    assert path.read_bytes() == CONTENT[::-1]


def test_a_cache_reached_by_a_link_is_still_the_cache(
    server, registered, cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere" / "small").mkdir(parents=True)
    cache.symlink_to(tmp_path / "elsewhere")
    (cache / "small" / "data.bin").write_bytes(CONTENT[::-1])
    registered(row(server.add("/good", CONTENT)))
    with pytest.raises(WrongFile, match="was removed from the cache"):
        content()
    assert content() == CONTENT


def test_what_was_placed_by_hand_in_the_cache_stays_when_refused(registered, cache) -> None:
    registered(row(hashed=False))
    path = cache / "small" / "data.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"junk")
    with (
        pytest.raises(WrongFile, match=r"no such thing\. Put that of https://example.org/small there"),
        reading("small"),
    ):
        raise WrongFile("no such thing")
    assert path.read_bytes() == b"junk"


def test_what_a_local_mirror_lacks_is_downloaded_to_the_cache(server, registered, mirror, cache) -> None:
    registered(row(server.add("/good", CONTENT)))
    assert content() == CONTENT
    assert kept(mirror) == set()
    assert kept(cache) == {"small/data.bin"}


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[::-1]], ids=["truncated", "another"])
def test_a_file_that_went_bad_in_the_cache_is_removed_and_then_fetched_anew(server, registered, cache, wrong) -> None:
    registered(row(server.add("/good", CONTENT)))
    path = cache / "small" / "data.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(wrong)
    with pytest.raises(WrongFile, match=f"{path} .*was removed from the cache"):
        content()
    assert not path.exists()
    assert content() == CONTENT


def test_what_a_reader_refuses_is_not_kept(server, registered, cache) -> None:
    registered(row(server.add("/archive", b"junk"), hashed=False))
    with pytest.raises(WrongFile, match=r"^small, from .*data\.bin: no such thing\. It was removed"), reading("small"):
        raise WrongFile("no such thing")
    assert kept(cache) == set()


def test_what_a_reader_refuses_in_a_local_mirror_stays(registered, mirror) -> None:
    registered(row(hashed=False))
    path = mirror / "small" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(b"junk")
    with pytest.raises(WrongFile, match=r"no such thing\. Put that of https://example.org/small"), reading("small"):
        raise WrongFile("no such thing")
    assert path.read_bytes() == b"junk"


def test_any_form_will_do_and_the_one_with_addresses_is_fetched(server, registered, mirror) -> None:
    second = row(server.add("/good", CONTENT)).removeprefix(ROW)
    registered(row(name="small/other.bin", hashed=False) + second)
    assert content() == CONTENT  # the first form has no address
    (mirror / "small").mkdir()
    (mirror / "small" / "other.bin").write_bytes(b"other")
    with reading("small") as files:
        assert list(files) == ["other.bin"]


def test_a_cache_that_cannot_be_written_says_the_cure(server, registered, cache) -> None:
    cache.write_text("a file where the folder should be")
    urls = [server.add("/good", CONTENT), server.add("/also", CONTENT)]
    registered(row(*urls))
    with pytest.raises(PermissionError, match=f"cannot write data to {cache} .*SPECDYN_DATA") as caught:
        content()
    assert str(caught.value).splitlines()[:2] == [
        "Small is not on this machine and has to be downloaded:",
        f"  small/data.bin (0.01 MB) from {urls[0]} or {urls[1]}",
    ]
    assert server.asked == []


def test_a_folder_of_the_cache_that_cannot_be_written_says_what_was_to_come_there(server, registered, cache) -> None:
    cache.mkdir()
    (cache / "small").write_text("a file where the folder should be")
    registered(row(server.add("/good", CONTENT)))
    with pytest.raises(PermissionError, match=r"^Small is not on this machine(.|\n)*cannot write data to .*/small "):
        content()


def test_a_folder_without_write_permission_says_the_cure(server, registered, cache) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere: the test above covers the message")
    cache.mkdir()
    cache.chmod(0o500)
    registered(row(server.add("/good", CONTENT)))
    with pytest.raises(PermissionError, match=f"cannot write data to {cache} .*SPECDYN_DATA"):
        content()


def test_a_full_cache_needs_no_write_permission(server, registered, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(row(server.add("/good", CONTENT)))
    content()
    monkeypatch.setattr(fetch, "writable", lambda folder: pytest.fail("nothing has to be written"))
    assert content() == CONTENT


def test_a_local_mirror_that_is_no_folder_is_named(registered, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(row())
    monkeypatch.setenv("SPECDYN_DATA", "/nowhere/at/all")
    with pytest.raises(NotADirectoryError, match="SPECDYN_DATA is '/nowhere/at/all'"):
        content()


def test_an_unknown_dataset_lists_the_choices() -> None:
    with (
        pytest.raises(ValueError, match="'mnits': choose one of mnist, fashion-mnist, cifar10, fsdd"),
        reading("mnits"),
    ):
        pass


def test_what_is_placed_by_hand_says_from_where_and_is_found_there(registered, cache) -> None:
    registered(row(hashed=False))
    place = cache / "small" / "data.bin"
    with pytest.raises(FileNotFoundError, match=f"by hand from https://example.org/small\nPut it at {place}"):
        content()
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    assert content() == b"by hand"


def test_several_at_once_download_once(server, registered) -> None:
    registered(row(server.add("/good", CONTENT)))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: content(), range(4))) == [CONTENT] * 4
    assert server.asked == ["/good"]


def test_progress_is_shown_and_can_be_sent_elsewhere(
    server, registered, cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(row(server.add("/good", CONTENT)))
    content()
    assert "small/data.bin" in capsys.readouterr().err
    (cache / "small" / "data.bin").unlink()
    monkeypatch.setenv("SPECDYN_PROGRESS", str(tmp_path / "notes"))
    content()
    assert "small/data.bin" in (tmp_path / "notes").read_text()
    assert capsys.readouterr().err == ""


def test_what_a_page_has_its_readers_download_is_noted(
    server, registered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECDYN_DOWNLOADS", str(tmp_path / "log"))
    registered(row(server.add("/good", CONTENT)))
    content()
    content()
    assert (tmp_path / "log").read_text().splitlines() == [f"small {len(CONTENT)}"] * 2
    registered(row(server.address + "/good", hashed=False) + "about = 5_000")
    content()
    assert (tmp_path / "log").read_text().splitlines()[2:] == ["small 5000"]


def test_the_canonical_form_is_the_one_with_addresses() -> None:
    assert [file.name for file in describe("cifar10").canonical] == ["cifar10/cifar-10-python.tar.gz"]
    assert [file.name for file in describe("gpt-neox-20b").canonical] == ["gpt-neox-20b/tokenizer.json"]

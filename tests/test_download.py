"""Downloads from a server on loopback: resumed, checked, whole or absent."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import socket
import tarfile
import threading

import pytest
from click.testing import CliRunner

from gan_mpi.cli import cli
from gan_mpi.datasets import download as module
from gan_mpi.datasets.download import COLLECTIONS, Collection, download
from gan_mpi.errors import UserError

CONTENT = bytes(range(256)) * 4000
NAME = "train-images-idx3-ubyte.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the server's files, from where a Range header says; keeps what was asked."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        data = server.files.get(self.path)
        if data is None:
            self.send_error(404, server.reason)
            return
        start = 0
        if self.headers.get("Range") and server.resumes:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", server.says or str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : server.breaks_at])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.files, found.asked, found.resumes, found.breaks_at = {}, [], True, None
    found.says = found.reason = None
    found.url = f"http://127.0.0.1:{found.server_port}"
    thread = threading.Thread(target=found.serve_forever, args=(0.01,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def one_file(monkeypatch, server):
    """A data set of one file, which the server has under /good/ and, damaged, under /bad/."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(COLLECTIONS, "mnist", Collection({NAME: sha256}, ()))
    server.files[f"/good/{NAME}"] = gzip.compress(CONTENT, 1)
    server.files[f"/bad/{NAME}"] = gzip.compress(CONTENT[:-1], 1)


def get(folder, server, *mirrors):
    seen = []
    urls = tuple(f"{server.url}/{mirror}" for mirror in mirrors)
    files = download("mnist", folder, urls, lambda *state: seen.append(state))
    return files, seen


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_checked_and_put_in_place(server, one_file, tmp_path):
    files, seen = get(tmp_path / "new" / "mnist", server, "good/")
    assert gzip.decompress(files[0].read_bytes()) == CONTENT
    size = len(server.files[f"/good/{NAME}"])
    assert seen[-1] == (NAME, size, size)
    assert left(tmp_path / "new" / "mnist") == [NAME]
    get(tmp_path / "new" / "mnist", server, "good/")
    assert len(server.asked) == 1, "what is there is kept"


def test_a_download_that_was_cut_off_goes_on(server, one_file, tmp_path):
    server.breaks_at = 1000
    with pytest.raises(UserError, match="the connection broke after 1000 of"):
        get(tmp_path, server, "good")
    assert left(tmp_path) == [f".{NAME}.part"]
    server.breaks_at = None
    get(tmp_path, server, "good")
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-"]
    assert left(tmp_path) == [NAME]


def test_a_server_that_cannot_go_on_sends_all_again(server, one_file, tmp_path):
    (tmp_path / f".{NAME}.part").write_bytes(b"old")
    server.resumes = False
    files, _ = get(tmp_path, server, "good")
    assert gzip.decompress(files[0].read_bytes()) == CONTENT


def test_a_part_that_is_whole_already_is_taken(server, one_file, tmp_path):
    (tmp_path / f".{NAME}.part").write_bytes(server.files[f"/good/{NAME}"])
    get(tmp_path, server, "good")
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ("many", "a Content-Length of 'many'"),
        ("-5", "a Content-Length of '-5'"),
        ("9" * 30, "more than the 1073741824 bytes"),
    ],
)
def test_a_length_that_cannot_be_is_a_failed_mirror(server, one_file, tmp_path, says, sentence):
    server.says = says
    with pytest.raises(UserError, match=sentence):
        get(tmp_path, server, "good")


def test_no_more_is_written_than_a_file_can_have(server, one_file, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(UserError, match="more than the 1000 bytes that any"):
        get(tmp_path, server, "good")


def test_a_mirrors_words_reach_no_terminal_as_control_characters(server, one_file, gan_mpi):
    server.reason = "no \x1b[31m such\x07 file"
    mirror = ("--mirror", f"{server.url}/none")
    result = gan_mpi("data", "download", "mnist", "--datadir", "here", *mirror)
    assert result.returncode == 1 and "such" in result.stderr
    assert not any(ord(letter) < 32 for letter in result.stderr.strip())


def test_the_next_mirror_is_tried_when_one_is_down_or_damaged(server, one_file, tmp_path):
    get(tmp_path, server, "missing", "bad", "good")
    assert left(tmp_path) == [NAME]
    assert len(server.asked) == 3


def test_what_one_mirror_began_another_may_not_go_on_with(server, one_file, tmp_path):
    server.files[f"/other/{NAME}"] = gzip.compress(CONTENT, 9)
    part = server.files[f"/good/{NAME}"][:500]
    (tmp_path / f".{NAME}.part").write_bytes(part)
    files, _ = get(tmp_path, server, "other")
    assert gzip.decompress(files[0].read_bytes()) == CONTENT
    assert [asked for _, asked in server.asked] == ["bytes=500-", None]


def test_a_server_that_speaks_no_http_is_a_mirror_that_failed(one_file, tmp_path):
    """A chunk that is none, after an answer that promised chunks."""
    answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"what?"]
    for answer in answers:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=answer_once, args=(listener, answer))
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with pytest.raises(UserError, match=f"cannot get {NAME}: {url}/"):
                download("mnist", tmp_path, (url,), lambda *_: None)
            thread.join()


def answer_once(listener, answer):
    connection, _ = listener.accept()
    with connection:
        connection.recv(10_000)
        connection.sendall(answer)


def test_a_lock_that_its_holder_removed_is_made_anew(tmp_path):
    """The second waits for the first's lock, which the first removes; the third takes a new one."""
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        assert module._is_at(lock, held.fileno())
        lock.unlink()
        assert not module._is_at(lock, held.fileno())
        with module._locked(lock):
            assert lock.exists()
            assert not module._is_at(lock, held.fileno())


def test_when_no_mirror_has_it_nothing_is_left(server, one_file, tmp_path):
    server.files[f"/cut/{NAME}"] = server.files[f"/good/{NAME}"][:-50]
    with pytest.raises(UserError) as caught:
        get(tmp_path, server, "missing", "bad", "cut")
    message = str(caught.value)
    assert f"cannot get {NAME}: {server.url}/missing/{NAME}: Not Found; " in message
    assert f"/bad/{NAME}: a file with the SHA-256 " in message
    assert f"/cut/{NAME}: a file with the SHA-256 of a damaged file" in message
    assert left(tmp_path) == []


def test_a_mirror_that_does_not_answer_is_named(one_file, tmp_path):
    with pytest.raises(UserError, match="http://127.0.0.1:9/.*Connection refused"):
        download("mnist", tmp_path, ("http://127.0.0.1:9",), lambda *_: None)


def test_two_processes_at_once_get_it_once(server, one_file, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=get, args=(tmp_path, server, "good")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert left(tmp_path) == [NAME]
    assert len(server.asked) == 1


def test_an_archive_is_unpacked_whole(server, monkeypatch, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("data_batch_1", "test_batch", "readme.html", "../data_batch_9"):
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    archive = buffer.getvalue()
    name = "cifar-10-python.tar.gz"
    sums = {name: hashlib.sha256(archive).hexdigest()}
    monkeypatch.setitem(COLLECTIONS, "cifar10", Collection(sums, ()))
    server.files[f"/{name}"] = archive
    download("cifar10", tmp_path / "here", (server.url,), lambda *_: None)
    folder = tmp_path / "here" / "cifar-10-batches-py"
    assert left(tmp_path / "here") == [folder.name]
    assert left(folder) == ["data_batch_1", "data_batch_9", "test_batch"]
    assert left(tmp_path) == ["here"]


def test_the_command(server, one_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["data", "download", "mnist", "--mirror", f"{server.url}/good/"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.output == f"data/MNIST/{NAME}\n"
    assert (tmp_path / "data" / "MNIST" / NAME).exists()


def test_a_mirror_that_is_no_address_is_refused(tmp_path):
    result = CliRunner().invoke(cli, ["data", "download", "mnist", "--mirror", "example.org/mnist"])
    assert result.exit_code == 2
    assert "'--mirror': example.org/mnist is no address" in result.output


def test_info_says_what_is_there(cifar10, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["data", "info", str(cifar10), "--grid", "3x2", "--out", "sheet.png"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert "4000 images of 3x32x32" in result.output
    assert "labels: 0: 396, 1: 366" in result.output
    assert "files: " in result.output and "test_batch.bin" in result.output
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_info_names_what_it_was_given(tmp_path):
    arguments = ["data", "info", str(tmp_path / "nowhere")]
    with pytest.raises(UserError, match="^FOLDER: .*nowhere does not exist; sought"):
        CliRunner().invoke(cli, arguments, standalone_mode=False, catch_exceptions=False)


def test_the_sums_are_those_of_the_real_files(mnist):
    for file, sha256 in COLLECTIONS["mnist"].files.items():
        assert module._content_digest(mnist / file) == sha256

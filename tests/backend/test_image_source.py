from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from backend.label_studio import errors
from backend.label_studio.hosts import AllowedHosts, HostRefusedError
from backend.label_studio.image_source import (
    FetchedImage,
    ImageAddressError,
    ImageMissingError,
    ImageSource,
    ImageSourceError,
    ImageTimeoutError,
    ImageTooLargeError,
    ImageUnauthorisedError,
    ImageUnavailableError,
    redacted,
)

PICTURE = bytes(range(256)) * 40
KEY = "Token secret-key"

Handler = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A loopback server whose pages are functions; it remembers what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Handler] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Request(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                page = outer.pages.get(self.path.partition("?")[0])
                (page or reply(404))(self)

            def log_message(self, *args: Any) -> None:
                """Keep the tests' output clean."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Request)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.http.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def reply(status: int = 200, body: bytes = b"", **headers: str) -> Handler:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return page


def guarded(body: bytes) -> Handler:
    """As Label Studio's uploads: 401 without the key."""

    def page(request: BaseHTTPRequestHandler) -> None:
        right = request.headers.get("Authorization") == KEY
        refusal = b'{"detail": "Authentication credentials were not provided."}'
        (reply(200, body) if right else reply(401, refusal))(request)

    return page


@pytest.fixture
def studio() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def other() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


class Key:
    """An authorization that counts how often it is dropped."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)

    def __call__(self) -> str:
        return self.values[0]

    def forget(self) -> bool:
        if len(self.values) > 1:
            self.values.pop(0)
            return True
        return False


def source(studio: Server, *allowed: str, **options: Any) -> ImageSource:
    options = {"read_seconds": 5.0, "authorization": Key(KEY), **options}
    return ImageSource(options.pop("url", studio.url), allowed_hosts=allowed, **options)


def test_reads_an_upload_with_the_key(studio: Server) -> None:
    studio.pages["/data/upload/1/a b.png"] = reply()
    studio.pages["/data/upload/1/ab.png"] = guarded(PICTURE)
    with source(studio) as images:
        assert images.fetch("/data/upload/1/ab.png") == FetchedImage(
            PICTURE, hashlib.sha256(PICTURE).hexdigest(), "/data/upload/1/ab.png"
        )
        assert images.fetch(f"{studio.url}/data/upload/1/ab.png").uri == f"{studio.url}/data/upload/1/ab.png"
        assert images.fetch("/data/upload/1/ab.png?x=secret").uri == "/data/upload/1/ab.png"
    assert "PICTURE" not in repr(FetchedImage(b"PICTURE", "", ""))


def test_reads_local_files_through_label_studio(studio: Server) -> None:
    studio.pages["/data/local-files/"] = guarded(PICTURE)
    assert source(studio).fetch("/data/local-files/?d=strip/1.png").data == PICTURE
    assert studio.seen[0][0] == "/data/local-files/?d=strip/1.png"


@pytest.mark.parametrize("address", ["/data/upload/1/a.png", "/studio/data/upload/1/a.png"])
def test_a_label_studio_below_a_path(studio: Server, address: str) -> None:
    studio.pages["/studio/data/upload/1/a.png"] = guarded(PICTURE)
    images = source(studio, url=studio.url + "/studio/")
    assert images.fetch(address).data == PICTURE
    with pytest.raises(ImageAddressError, match="where no images are"):
        images.fetch(f"{studio.url}/data/upload/1/a.png")


def test_a_bucket_is_resolved_by_label_studio_and_the_key_stays_there(studio: Server, other: Server) -> None:
    target = f"{other.url}/bucket/a.png?X-Signature=s"
    studio.pages["/tasks/7/resolve/"] = reply(303, Location=target, Set_Cookie="sessionid=s; Path=/")
    other.pages["/bucket/a.png"] = reply(200, PICTURE)
    found = source(studio, "127.0.0.1").fetch("s3://bucket/a.png", task_id=7)
    assert (found.data, found.uri) == (PICTURE, "s3://bucket/a.png")
    query = httpx.QueryParams(studio.seen[0][0].partition("?")[2])
    assert base64.urlsafe_b64decode(query["fileuri"]) == b"s3://bucket/a.png"
    assert studio.seen[0][1]["authorization"] == KEY
    assert other.seen[0][0] == "/bucket/a.png?X-Signature=s"
    assert not {"authorization", "cookie"} & set(other.seen[0][1])


def test_a_bucket_needs_a_task(studio: Server) -> None:
    with pytest.raises(ImageAddressError, match="for a task only"):
        source(studio).fetch("s3://bucket/a.png")


def test_a_redirect_to_another_host_is_refused(studio: Server, other: Server) -> None:
    studio.pages["/data/upload/1/a.png"] = reply(302, Location=f"{other.url}/a.png?token=s")
    other.pages["/a.png"] = reply(200, PICTURE)
    with pytest.raises(ImageAddressError, match="in no listed network") as caught:
        source(studio).fetch("/data/upload/1/a.png")
    assert not other.seen
    assert "token" not in str(caught.value)


def test_a_listed_host_is_read_without_the_key_and_its_redirects_are_judged_again(
    studio: Server, other: Server
) -> None:
    other.pages["/a.png"] = reply(302, Location="http://169.254.169.254/latest/meta-data/")
    images = source(studio, "127.0.0.1")
    with pytest.raises(ImageAddressError, match=r"169\.254\.169\.254 is in no listed network"):
        images.fetch(f"{other.url}/a.png")
    assert "authorization" not in other.seen[0][1]
    other.pages["/a.png"] = reply(302, Location=f"{studio.url}/api/token/")
    with pytest.raises(ImageAddressError, match="where no images are"):
        images.fetch(f"{other.url}/a.png")
    assert not studio.seen


def test_a_name_is_connected_to_the_very_address_that_was_judged(
    studio: Server, other: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look-up could give another answer (DNS rebinding): there is none."""
    lookups: list[str] = []
    real = socket.getaddrinfo

    def look_up(name: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if name == "127.0.0.1":  # connecting to a number goes through here as well
            return real(name, port, *rest, **options)
        lookups.append(name)
        address = "127.0.0.1" if len(lookups) == 1 else "192.0.2.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr("backend.label_studio.hosts.socket.getaddrinfo", look_up)
    other.pages["/a.png"] = reply(200, PICTURE)
    images = source(studio, "camera.plant", "127.0.0.0/8")
    assert images.fetch(f"http://camera.plant:{other.port}/a.png").data == PICTURE
    assert lookups == ["camera.plant"]
    assert other.seen[0][1]["host"] == f"camera.plant:{other.port}"


@pytest.mark.parametrize(
    "address",
    [
        "/api/users/",
        "/user/logout",
        "/data/../api/users/",
        "/data/%2e%2e/api/users/",
        "/data/upload/..%2f..%2f..%2fapi/users/",
        "/tasks/1/",
        "/projects/1/export",
        "//evil.example/a.png",
        "a.png",
        "",
        "file:///etc/passwd",
        "ftp://desk.example/a.png",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "http://",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://2130706433/a.png",
        "http://0x7f.1/a.png",
        "http://10.0.0.8/a.png",
        "http://desk.example/a.png",
        "http://exa mple/\x00",
        "http://0.0.0.0/a.png",
        "http://0177.0.0.1/a.png",
        "http://127.1/a.png",
        "http://127.0.0.1./a.png",
        "http://[::]/a.png",
        "http://[::ffff:a9fe:a9fe]/a.png",
        "http://[fe80::1%25eth0]/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/computeMetadata/v1/",
        "http://localhost/a.png",
        "http://desk.example@10.0.0.8/a.png",
        "FiLe:///etc/passwd",
        "GOPHER://127.0.0.1/",
        "file:/etc/passwd",
        "/etc/passwd",
        "\\\\host\\share\\a.png",
        "/data/%252e%252e/api/users/",
        "/data/%25252525252e%25252525252e/api/",
        "/data/upload/..\\..\\api/users/",
        "/data/upload/%5c..%5c..%5capi/users/",
        "/data/upload/a.png%00.txt",
        "/data/upload/a%2500.png",
        "/data/local-files/?d=../../etc/passwd",
        "/data/local-files/?d=%2e%2e%2f%2e%2e%2fetc/passwd",
        "/data/local-files/?d=%252e%252e/etc/passwd",
        "/data/local-files/?d=a%00b",
        "/data/upload/\ud800.png",
        "https://" + "a" * 9000,
    ],
)
def test_addresses_that_are_not_read(studio: Server, address: str) -> None:
    with pytest.raises(ImageAddressError) as caught:
        source(studio).fetch(address)
    assert not studio.seen
    assert not caught.value.retryable and len(str(caught.value)) < 500


def test_userinfo_does_not_replace_the_key(studio: Server) -> None:
    studio.pages["/data/upload/1/a.png"] = guarded(PICTURE)
    found = source(studio).fetch(f"http://user:pass@127.0.0.1:{studio.port}/data/upload/1/a.png")
    assert found.data == PICTURE and "pass" not in found.uri


def test_an_endless_redirect_ends(studio: Server) -> None:
    studio.pages["/data/a"] = reply(302, Location="/data/a")
    with pytest.raises(ImageAddressError, match="more than 5 times"):
        source(studio).fetch("/data/a")
    assert len(studio.seen) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://127.0.0.1/", "//169.254.169.254/", "http://[::1]/"])
def test_a_redirect_into_the_inside_is_not_followed(studio: Server, other: Server, target: str) -> None:
    for server in (studio, other):
        server.pages["/data/a"] = reply(302, Location=target)
    with pytest.raises(ImageAddressError):
        source(studio).fetch("/data/a")
    with pytest.raises(ImageAddressError):
        source(studio, "127.0.0.1").fetch(f"{other.url}/data/a")
    assert (len(studio.seen), len(other.seen)) == (1, 1)


def test_a_name_that_later_leads_elsewhere_is_judged_at_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([PUBLIC, "127.0.0.1"])

    def look_up(name: str, port: int, **_: Any) -> list[Any]:
        return [(0, 0, 0, "", (next(answers), port))]

    monkeypatch.setattr("backend.label_studio.hosts.socket.getaddrinfo", look_up)
    hosts = AllowedHosts(["camera.plant"])
    assert hosts.resolve(httpx.URL("http://camera.plant/")) == PUBLIC
    with pytest.raises(HostRefusedError, match="private network"):
        hosts.resolve(httpx.URL("http://camera.plant/"))


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip, gzip", "X-GZIP"])
@pytest.mark.parametrize("status", [200, 401])
def test_what_comes_packed_is_never_unpacked(
    studio: Server, monkeypatch: pytest.MonkeyPatch, coding: str, status: int
) -> None:
    def unpack(*_: Any) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr("httpx._decoders.GZipDecoder.decode", unpack)
    packed = gzip.compress(gzip.compress(gzip.compress(bytes(50_000_000))))
    studio.pages["/data/a"] = reply(status, packed, Content_Encoding=coding)
    with pytest.raises(ImageUnavailableError if status == 200 else ImageUnauthorisedError) as caught:
        source(studio).fetch("/data/a")
    if status == 200:
        assert "comes compressed" in str(caught.value) and not caught.value.retryable


def test_codings_that_change_nothing_are_read(studio: Server) -> None:
    for coding in ("identity", "aws-chunked"):
        studio.pages["/data/a"] = reply(200, PICTURE, Content_Encoding=coding)
        assert source(studio).fetch("/data/a").data == PICTURE


def test_names_that_only_look_like_ways_out_are_read(studio: Server) -> None:
    for name in ("50%25 grey.png", "a..b.png", "...png"):
        studio.pages[f"/data/upload/{name.replace(' ', '%20')}"] = reply(200, PICTURE)
        assert source(studio).fetch(f"/data/upload/{name}").data == PICTURE


@pytest.mark.parametrize("header", ["Content-Length", "X-Long"])
def test_headers_of_enormous_length_are_no_picture(studio: Server, header: str) -> None:
    def page(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.0 200 OK\r\n" + header.encode() + b": " + b"9" * 300_000 + b"\r\n\r\nabc")

    studio.pages["/data/a"] = page
    with pytest.raises(ImageSourceError):
        source(studio).fetch("/data/a")


def test_too_many_bytes_are_not_read(studio: Server) -> None:
    studio.pages["/data/told"] = reply(200, PICTURE)
    sent = []

    def stream(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            for _ in range(4000):
                request.wfile.write(b"x" * 65536)
                sent.append(65536)
        except OSError:
            sent.append(-1)

    studio.pages["/data/untold"] = stream
    images = source(studio, max_bytes=5000)
    for page in ("/data/told", "/data/untold"):
        with pytest.raises(ImageTooLargeError, match="more than 5000 bytes"):
            images.fetch(page)
    deadline = time.monotonic() + 10
    while not (sent and sent[-1] == -1) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sent[-1] == -1, "the server could send all of it"


def test_a_file_of_just_the_limit_is_read(studio: Server) -> None:
    studio.pages["/data/a"] = reply(200, b"x" * 5000)
    assert len(source(studio, max_bytes=5000).fetch("/data/a").data) == 5000


def test_a_silent_server_is_given_up(studio: Server) -> None:
    let_go = threading.Event()

    def silent(request: BaseHTTPRequestHandler) -> None:
        let_go.wait(20)

    studio.pages["/data/a"] = silent
    with pytest.raises(ImageTimeoutError, match="in time") as caught:
        source(studio, read_seconds=0.1).fetch("/data/a")
    let_go.set()
    assert caught.value.retryable


def test_a_dripping_server_is_given_up(studio: Server) -> None:
    """Each byte comes in time, the whole would take for ever."""
    let_go = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        while not let_go.wait(0.02):
            try:
                request.wfile.write(b"x")
            except OSError:
                return

    studio.pages["/data/a"] = drip
    with pytest.raises(ImageTimeoutError, match=r"within 0\.2 s") as caught:
        source(studio, total_seconds=0.2).fetch("/data/a")
    let_go.set()
    assert caught.value.retryable


@pytest.mark.parametrize("what", ["headers", "refusal", "an unannounced end"])
def test_what_drips_is_given_up_whatever_it_is(studio: Server, what: str) -> None:
    """None of it would end within the time; in the end each server says something else than that."""
    given_up = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        wire = request.wfile
        started = {
            "headers": b"HTTP/1.1 404 Not Found\r\n",
            "refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4000\r\n\r\n",
            "an unannounced end": b"HTTP/1.0 200 OK\r\n\r\nhalf a picture",
        }
        drops = {"headers": b"X-More: 1\r\n", "refusal": b"x" * 20, "an unannounced end": b""}
        with contextlib.suppress(OSError):
            wire.write(started[what])
            for _ in range(200):
                if given_up.wait(0.02):
                    return
                wire.write(drops[what])
            wire.write(b"Content-Length: 0\r\n\r\n" if what == "headers" else b"")

    studio.pages["/data/a"] = drip
    with pytest.raises(ImageTimeoutError, match=r"within 0\.2 s") as caught:
        source(studio, total_seconds=0.2).fetch("/data/a")
    given_up.set()
    assert caught.value.retryable


def test_a_connection_cut_off_is_no_picture(studio: Server) -> None:
    def cut(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"x" * 10)

    studio.pages["/data/a"] = cut
    with pytest.raises(ImageUnavailableError) as caught:
        source(studio).fetch("/data/a")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("page", "kind", "said", "retryable"),
    [
        (reply(401, b'{"detail": "Invalid token."}'), ImageUnauthorisedError, "Invalid token.*_API_KEY", False),
        (reply(403, b"Serving local files can be dangerous"), ImageUnauthorisedError, "Serving local files", False),
        (reply(302, Location="/user/login/?next=/data/a"), ImageUnauthorisedError, "asks for a login", False),
        (reply(404), ImageMissingError, "does not exist", False),
        (reply(410), ImageMissingError, "does not exist", False),
        (reply(200), ImageMissingError, "is empty", False),
        (reply(500), ImageUnavailableError, "uploads it does not have", True),
        (reply(503), ImageUnavailableError, "status 503", True),
        (reply(429), ImageUnavailableError, "status 429", True),
        (reply(206, b"x"), ImageUnavailableError, "status 206", False),
        (reply(302), ImageAddressError, "redirected to no address", False),
        (reply(302, Location="http://[bad"), ImageAddressError, "no address|not listed", False),
    ],
)  # fmt: skip
def test_each_refusal_is_told(
    studio: Server, page: Handler, kind: type[ImageSourceError], said: str, retryable: bool
) -> None:
    studio.pages["/data/a"] = page
    with pytest.raises(kind, match=said) as caught:
        source(studio).fetch("/data/a?sig=hidden")
    assert caught.value.retryable == retryable
    assert "/data/a" in str(caught.value) and "hidden" not in str(caught.value)
    assert "secret-key" not in str(caught.value)


def test_without_a_key_the_refusal_says_which_setting(studio: Server) -> None:
    studio.pages["/data/a"] = guarded(PICTURE)
    with pytest.raises(ImageUnauthorisedError, match="INSPECTION_LABEL_STUDIO_API_KEY"):
        source(studio, authorization=None).fetch("/data/a")
    assert "authorization" not in studio.seen[0][1]


def test_a_token_that_has_run_out_is_renewed_once(studio: Server) -> None:
    studio.pages["/data/a"] = guarded(PICTURE)
    assert source(studio, authorization=Key("Bearer old", KEY)).fetch("/data/a").data == PICTURE
    with pytest.raises(ImageUnauthorisedError):
        source(studio, authorization=Key("Bearer old", "Bearer older", KEY)).fetch("/data/a")


def test_a_token_that_cannot_be_had_is_told(studio: Server) -> None:
    class Broken(Key):
        def __call__(self) -> str:
            raise errors.LabelStudioUnreachableError("nothing answers at x")

    with pytest.raises(ImageUnauthorisedError, match="nothing answers at x") as caught:
        source(studio, authorization=Broken("")).fetch("/data/a")
    assert caught.value.retryable


def test_nothing_listening(studio: Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(ImageUnavailableError) as caught:
        source(studio, "127.0.0.1").fetch(f"http://127.0.0.1:{port}/a")
    assert caught.value.retryable


def test_what_is_secret_is_cut_from_an_address() -> None:
    assert redacted("https://u:p@host.example:8/a/b.png?sig=s#f") == "https://host.example:8/a/b.png"
    assert redacted("/data/upload/1/a.png?x=1") == "/data/upload/1/a.png"
    assert redacted("s3://bucket/key?versionId=3") == "s3://bucket/key"
    assert redacted("https://host/a@b?c") == "https://host/a@b"
    assert redacted("/a\n/b\ud800.png") == r"/a\n/b\ud800.png"


PUBLIC = "93.184.215.14"


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def look_up(name: str, port: int, **_: Any) -> list[Any]:
        if not addresses:
            raise socket.gaierror("unknown")
        return [(0, 0, 0, "", (address, port)) for address in addresses]

    monkeypatch.setattr("backend.label_studio.hosts.socket.getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("allowed", "url", "addresses", "said"),
    [
        (["host.example"], "https://host.example/", [PUBLIC], None),
        (["HOST.example."], "https://Host.Example./", [PUBLIC], None),
        (["host.example:8443"], "https://host.example:8443/", [PUBLIC], None),
        (["host.example:443"], "https://host.example/", [PUBLIC], None),
        (["host.example:8443"], "https://host.example/", [PUBLIC], "not listed"),
        (["host.example"], "https://sub.host.example/", [PUBLIC], "not listed"),
        (["host.example"], "https://host.example.evil.example/", [PUBLIC], "not listed"),
        (["host.example"], "https://host.example/", ["10.0.0.1"], "private network"),
        (["host.example", "10.0.0.0/8"], "https://host.example/", ["10.0.0.1"], None),
        (["host.example", "10.0.0.0/8"], "https://host.example/", [PUBLIC, "192.168.1.1"], "private network"),
        (["host.example"], "https://host.example/", ["fe80::1%eth0"], "private network"),
        (["host.example"], "https://host.example/", ["::ffff:10.0.0.1"], "private network"),
        (["host.example"], "https://host.example/", ["0.0.0.0"], "private network"),
        (["host.example"], "https://host.example/", ["224.0.0.1"], "private network"),
        (["host.example"], "https://host.example/", ["169.254.169.254"], "private network"),
        (["host.example"], "https://host.example/", ["100.64.0.1"], "private network"),
        (["host.example"], "https://host.example/", ["::127.0.0.1"], "private network"),
        (["host.example"], "https://host.example/", ["64:ff9b::a9fe:a9fe"], "private network"),
        (["host.example"], "https://host.example/", ["2002:7f00:1::"], "private network"),
        (["host.example"], "https://host.example/", ["fec0::1"], "private network"),
        (["host.example", "64:ff9b::/96"], "https://host.example/", ["64:ff9b::5db8:d70e"], None),
        (["host.example"], "https://host.example/", ["2606:2800:21f:cb07::1"], None),
        (["host.example"], "https://host.example/", [], "not known"),
        (["fd00::/8"], "http://[fd00::1]/", [], None),
        (["10.1.2.3"], "http://10.1.2.3/", [], None),
        (["10.1.2.3"], "http://10.1.2.4/", [], "no listed network"),
        ([], f"http://{PUBLIC}/", [], "no listed network"),
        (["host.example"], "ftp://host.example/", [PUBLIC], "only http and https"),
    ],
)
def test_hosts(
    monkeypatch: pytest.MonkeyPatch, allowed: list[str], url: str, addresses: list[str], said: str | None
) -> None:
    resolving(monkeypatch, *addresses)
    hosts = AllowedHosts(allowed)
    if said is None:
        assert hosts.resolve(httpx.URL(url))
    else:
        with pytest.raises(HostRefusedError, match=said) as caught:
            hosts.resolve(httpx.URL(url))
        assert caught.value.retryable == (said == "not known")


def test_a_host_written_as_ipv6_is_reached(studio: Server) -> None:
    class SixServer(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(200, PICTURE)(self)

        def log_message(self, *args: Any) -> None:
            """Keep the tests' output clean."""

    try:
        server = SixServer(("::1", 0), Page)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        assert source(studio, "::1").fetch(f"http://[::1]:{server.server_address[1]}/a").data == PICTURE
    finally:
        server.shutdown()
        server.server_close()

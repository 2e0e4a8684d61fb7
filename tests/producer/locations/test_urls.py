"""Inputs and outputs at URLs: read, committed once, and refused with a sentence."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs, orc, parquet
from support.object_store import KEYS, checked_credentials, google_server, s3_server, web_server

from producer.errors import FileError
from producer.files import Columns, expand, open_filesystem, open_reader

pytestmark = [pytest.mark.object_stores, pytest.mark.timeout(120)]
TABLE = pa.table({"id": list(range(2000)), "text": [f"text {row}" for row in range(2000)]})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server for all tests of this file."""
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket of one's own; credentials and endpoint are in the environment."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server}.items():
        monkeypatch.setenv(name, value)
    name = "".join(character for character in tmp_path.name if character.isalnum()).lower()
    # Lower case, as bucket names must be; pytest numbers equal names.
    store = fs.S3FileSystem(endpoint_override=server, region=KEYS["AWS_REGION"], allow_bucket_creation=True)
    store.create_dir(name)
    return f"s3://{name}"


def put(url: str, path: Path) -> None:
    filesystem, target = open_filesystem(url)
    filesystem.put(path, target)


def texts_at(url: str) -> list[object]:
    (source,) = expand([url])
    with open_reader(source) as reader:
        return [text for batch in reader.batches(max_texts=500, max_bytes=10**6) for text in batch.texts]


def write_all(directory: Path) -> list[Path]:
    """The same rows in every kind of format."""
    parquet.write_table(TABLE, directory / "a.parquet", row_group_size=300)
    orc.write_table(TABLE, directory / "b.orc")
    with pa.OSFile(str(directory / "c.arrow"), "wb") as sink, pa.ipc.new_file(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)
    lines = "".join(f'{{"id": {row}, "text": "text {row}"}}\n' for row in range(2000))
    (directory / "d.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return [directory / name for name in ("a.parquet", "b.orc", "c.arrow", "d.jsonl.gz")]


def test_an_object_store_holds_inputs_of_every_format(bucket: str, tmp_path: Path) -> None:
    """A prefix or a glob stands for parts with names, sizes and versions, and all are read."""
    files = write_all(tmp_path)
    names = [path.name for path in files]
    for path in files:
        put(f"{bucket}/in/deep/{path.name}", path)
    for argument in (f"{bucket}/in", f"{bucket}/in/", bucket):
        assert [Path(source.name).name for source in expand([argument])] == names
    assert [source.name for source in expand([f"{bucket}/in"])] == [f"deep/{name}" for name in names]
    assert [source.name for source in expand([f"{bucket}/**/*.orc", f"{bucket}/in/*/a.*"])] == [
        "in/deep/b.orc",
        "deep/a.parquet",
    ]
    for source in expand([bucket]):
        assert source.size
        assert source.etag_or_mtime
        assert texts_at(source.location) == TABLE["text"].to_pylist()


def test_a_resumed_read_of_a_remote_part(bucket: str, tmp_path: Path) -> None:
    """Rows that were read before are passed over, also within a row group; kept columns come along."""
    put(f"{bucket}/a.parquet", write_all(tmp_path)[0])
    with open_reader(f"{bucket}/a.parquet", columns=Columns(keep=("text",))) as reader:
        (batch, *_) = reader.batches(max_texts=10, max_bytes=10**6, skip=1250)
    assert (batch.first, batch.ids[0], batch.texts[0]) == (1250, 1250, "text 1250")
    assert batch.kept["text"][0].as_py() == "text 1250"


def test_an_output_is_committed_once(bucket: str, tmp_path: Path) -> None:
    """An object is there whole or not at all, also one of many parts; writing again replaces it."""
    filesystem, root = open_filesystem(f"{bucket}/out")
    large = tmp_path / "large"
    large.write_bytes(b"x" * 12_000_000)
    filesystem.put(large, f"{root}/large")
    assert not large.exists()
    filesystem.write(f"{root}/_manifest.json", b"{}")
    filesystem.write(f"{root}/_manifest.json", b"{1}")
    assert [(each.path.rpartition("/")[2], each.size) for each in filesystem.list(root)] == [
        ("_manifest.json", 3),
        ("large", 12_000_000),
    ]
    filesystem.delete(f"{root}/large")
    filesystem.delete(f"{root}/large")
    assert filesystem.stat(f"{root}/large") is None
    with pytest.raises(FileError, match="cannot be written"):
        filesystem.put(tmp_path / "absent", f"{root}/absent")
    assert filesystem.stat(f"{root}/absent") is None


def test_wrong_credentials_say_so(bucket: str, server: str) -> None:
    """Refused credentials name the place and where credentials are taken from."""
    with checked_credentials(server):
        for url in (bucket, f"{bucket}/a.parquet"):
            with pytest.raises(FileError, match="check the credentials") as caught:
                expand([url])
            assert bucket in str(caught.value)
            assert "anything" not in str(caught.value)


def test_a_missing_bucket_or_object_says_so(bucket: str) -> None:
    """What is not there is named, whether bucket, prefix or object."""
    with pytest.raises(FileError, match=f"{bucket}/none.parquet: cannot be read .there is no such file"):
        expand([f"{bucket}/none.parquet"])
    with pytest.raises(FileError, match="nothing matches it"):
        expand([f"{bucket}/*.parquet"])
    with pytest.raises(FileError, match="cannot be read"):
        expand(["s3://no-such-bucket-of-anyone/in"])
    filesystem, root = open_filesystem("s3://no-such-bucket-of-anyone/out")
    with pytest.raises(FileError, match="check its name"):
        filesystem.write(f"{root}/x", b"")


def test_a_part_that_vanished_says_so(bucket: str, tmp_path: Path) -> None:
    """A part that is gone when its turn comes is an error that names it."""
    put(f"{bucket}/a.parquet", write_all(tmp_path)[0])
    (source,) = expand([bucket])
    filesystem, path = open_filesystem(source.location)
    filesystem.delete(path)
    with pytest.raises(FileError, match=r"a.parquet: cannot be read"):
        open_reader(source)


def test_an_unreachable_store_says_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer is an error within seconds."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(FileError, match="check the address and the network"):
        expand([f"{bucket}/a.parquet"])
    with pytest.raises(FileError, match="unknown option 'nonsense'"):
        expand([f"{bucket}/a.parquet?nonsense=1"])


def test_google_cloud_storage_holds_inputs_and_outputs(tmp_path: Path) -> None:
    """Google's objects are listed, read, committed once and deleted; what is missing is named."""
    with google_server("bucket") as query:
        files = write_all(tmp_path)
        for path in files:
            put(f"gs://bucket/in/{path.name}{query}", path)
        for source in expand([f"gs://bucket/in{query}"]):
            with open_reader(source) as reader:
                batches = reader.batches(max_texts=500, max_bytes=10**6)
                assert [text for batch in batches for text in batch.texts] == TABLE["text"].to_pylist()
        assert [source.name for source in expand([f"gs://bucket/**/*.orc{query}"])] == ["in/b.orc"]
        filesystem, root = open_filesystem(f"gs://bucket/in{query}")
        filesystem.delete(f"{root}/a.parquet")
        assert [each.path for each in filesystem.list(root)] == [
            f"bucket/in/{path.name}" for path in files[1:]
        ]
        with pytest.raises(FileError, match="no such file"):
            expand([f"gs://bucket/none.jsonl{query}"])


def test_the_web_holds_inputs_of_every_format(tmp_path: Path) -> None:
    """An address is read by ranges, with a signature in it that is never shown."""
    with web_server(tmp_path) as url:
        for path in write_all(tmp_path):
            address = f"{url}/{path.name}?signature=hidden"
            assert texts_at(address) == TABLE["text"].to_pylist()
            (source,) = expand([address])
            assert (source.name, source.location) == (path.name, f"{url}/{path.name}")
            assert source.etag_or_mtime.endswith(f'"{path.stat().st_mtime_ns}"')
        for name, says in (("absent.jsonl", "no such file"), ("secret.jsonl", "check the credentials")):
            with pytest.raises(FileError, match=says) as caught:
                expand([f"{url}/{name}?signature=hidden"])
            assert "hidden" not in str(caught.value)
        filesystem, path_of = open_filesystem(f"{url}/out")
        with pytest.raises(FileError, match="cannot be written"):
            filesystem.write(path_of, b"")
    with pytest.raises(FileError, match="check the address and the network"):
        expand([f"{url}/a.parquet"])


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("s3://b/x.jsonl", "s3"),
        ("gs://b/x.jsonl", "gs"),
        ("az://c/x.jsonl", "az"),
        ("hf://datasets/u/r", "hf"),
        ("https://h/x.jsonl", "http"),
    ],
)
def test_a_missing_library_names_its_extra(url: str, extra: str) -> None:
    """Without its library a scheme says which extra brings it; nothing else needs it."""
    program = (
        "import sys\n"
        "for name in ('pyarrow', 'fsspec'): sys.modules[name] = None\n"
        "from producer.files import expand; from producer.errors import FileError\n"
        "try: expand([sys.argv[1]])\n"
        "except FileError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    assert f"embedmill[{extra}]" in done.stdout


def test_an_unknown_scheme_says_which_are_known() -> None:
    """A scheme that no library knows is refused."""
    with pytest.raises(FileError, match="no file system is known by gopher://"):
        expand(["gopher://x/y.jsonl"])

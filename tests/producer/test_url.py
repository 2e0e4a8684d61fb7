"""Redis URLs: every form that is taken, what is refused with a sentence, and that no secret is ever shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import SettingsError
from producer.transport.connect import connect
from producer.transport.url import parse, redacted
from worker.settings import Settings


def test_a_server() -> None:
    """Credentials are percent-decoded; the path is the database."""
    url = parse("redis://us%40er:p%2Fa%3As%23s@example.org:7000/3?client_name=etl&socket_timeout=2.5")
    assert url.hosts == (("example.org", 7000),)
    assert url.options == {
        "username": "us@er",
        "password": "p/a:s#s",
        "db": 3,
        "client_name": "etl",
        "socket_timeout": 2.5,
    }
    assert parse("redis://").hosts == (("localhost", 6379),)
    assert parse("redis://[::1]:7000").hosts == (("::1", 7000),)


def test_sentinels_and_their_service() -> None:
    """Their own credentials beside the server's."""
    url = parse(
        "rediss+sentinel://u:p@a:1,[::1]:2,c/main/2?sentinel_username=s&sentinel_password=q&ssl_cert_reqs=none"
    )
    assert (url.service, url.hosts) == ("main", (("a", 1), ("::1", 2), ("c", 26379)))
    assert url.options["db"] == 2
    assert url.options["password"] == "p"
    assert url.sentinel_options == {"username": "s", "password": "q"}


def test_a_host_name_is_checked_unless_no_certificate_is() -> None:
    """And it can be left out by itself."""
    assert parse("rediss://h").options == {"ssl_check_hostname": True}
    assert parse("rediss://h?ssl_cert_reqs=none").options["ssl_check_hostname"] is False
    assert parse("rediss://h?ssl_check_hostname=false").options["ssl_check_hostname"] is False


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://host", "use one of these schemes: redis, rediss, unix"),
        ("localhost:6379", "is not a Redis URL"),
        ("redis://user:hunter2/x@host/0", "percent-encoded"),
        ("redis://user:12/34@host/0", "percent-encoded"),
        ("redis://user:hunter2#x@host/0", "percent-encoded"),
        ("redis://user:12?hunter2@host/0", "percent-encoded"),
        ("redis://host/main", "database number"),
        ("redis://a,b", "several hosts"),
        ("redis+sentinel://a:1", "name the sentinels' service"),
        ("redis://host?colour=red", "unknown option colour"),
        ("redis://host?db=hunter2", "invalid value for the option db"),
        ("redis://host?ssl_ca_certs=x", "unknown option ssl_ca_certs"),
        ("rediss://host?ssl_ca_certs=/none.pem", "ssl_ca_certs: no such file: /none.pem"),
    ],
)
def test_what_is_no_url_of_ours_is_refused(url: str, sentence: str) -> None:
    """Before anything is sent, and without what may be a password."""
    with pytest.raises(SettingsError, match=sentence) as refused:
        connect(url)
    assert "hunter2" not in str(refused.value)
    assert "34" not in str(refused.value)


SECRET = "hunter2"


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster"])
def test_a_password_is_in_no_repr(scheme: str) -> None:
    """Of clients, pools, connections, the parsed URL and the worker's settings."""
    more = f"?sentinel_password={SECRET}" if "sentinel" in scheme else ""
    url = f"{scheme}://user:{SECRET}@localhost:1/{'main' if more else 0}{more}"
    shown = [repr(parse(url)), str(parse(url)), redacted(url), repr(Settings(redis_url=url))]
    client = connect(url)
    pool = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    shown += [repr(client), repr(pool), repr(connection), repr(getattr(pool, "sentinel_manager", ""))]
    assert SECRET not in "".join(shown)


def test_settings_that_contradict_each_other_show_no_url() -> None:
    """pydantic would quote all it was given."""
    from worker.settings import read_settings

    with pytest.raises(SettingsError) as refused:
        read_settings(redis_url=f"redis://:{SECRET}@host", model_profile="a", tags_selector="b=c")
    assert SECRET not in repr(refused.value) + repr(refused.value.__cause__)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("abc@:/?#%&=[]+. 12"), max_size=20))
def test_no_password_however_it_is_written_is_shown(noise: str) -> None:
    """Whatever characters are left raw in it, neither it nor a part of it comes back."""
    secret = f"Q{noise}Q"
    assert "Q" not in redacted(f"redis://user:{secret}@host:6379/0?client_name=x")

import itertools

import pytest

from freehold.core.errors import Forbidden
from freehold.guard import origin

ALLOWED = origin.LOOPBACK | {"box.lan"}
GOOD_HOSTS = ["localhost", "localhost:6464", "127.0.0.1:1", "[::1]:6464", "BOX.lan", "box.LAN:443"]
BAD_HOSTS = [
    "", " ", "evil.com", "localhost.evil.com", "evillocalhost", "localhost@evil.com", "evil.com:80", "127.0.0.1:999999",
    "127.0.0.1:80:80", "127.0.0.1/", "127.0.0.1?", "127.0.0.1#", "127.0.0.1\\", "localhost,evil.com", "[::1", "::1",
    "localhost\n", "localhost:", "2130706433", "127.1", "0", "0x7f.1", "[::ffff:127.0.0.1]", "x" * 999, "localhost\x00",
]  # fmt: skip
BAD_ORIGINS = ["null", "", "http://evil.com", "https://evil.com:6464", "file://", "app://localhost", "http://localhost:1",
               "http://localhost.evil.com", "http://localhost/", "chrome-extension://abc", "localhost"]  # fmt: skip
BAD_SITES = ["cross-site", "same-site", "", "anything"]


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_programs_on_this_machine_pass(host: str):
    origin.check(host, None, None, ALLOWED)
    origin.check(host, f"http://{host}", "same-origin", ALLOWED)
    origin.check(host, None, "none", ALLOWED)


def test_the_whole_matrix_of_foreign_callers_is_refused():
    """Every bad part is refused whatever the others are."""
    count = 0
    hosts, origins, sites = [*GOOD_HOSTS, *BAD_HOSTS], [None, *BAD_ORIGINS], [None, "none", "same-origin", *BAD_SITES]
    for host, source, site in itertools.product(hosts, origins, sites):
        if host in BAD_HOSTS or source in BAD_ORIGINS or site in BAD_SITES:
            count += 1
            if source == f"http://{host}":  # the same origin is no foreign one
                continue
            with pytest.raises(Forbidden) as caught:
                origin.check(host, source, site, ALLOWED)
            assert caught.value.status == 403
    assert count > 2000

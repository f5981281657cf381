import math

import pytest

from freehold.guard import caller


def test_the_same_credential_is_the_same_caller_wherever_it_comes_from():
    one = caller.of({"authorization": "Bearer s3cret"}, "127.0.0.1")
    assert one == caller.of({"authorization": "Bearer s3cret", "user-agent": "x"}, "10.0.0.1")
    assert one.who != caller.of({"authorization": "Bearer other"}, "127.0.0.1").who


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_no_credential_is_kept_in_clear(header: str):
    found = caller.of({header: "sk-s3cret"}, "127.0.0.1")
    assert "s3cret" not in repr(found)
    assert found.who != caller.of({}, "127.0.0.1").who


def test_without_a_credential_the_address_tells():
    assert caller.of({}, "127.0.0.1") == caller.of({"authorization": ""}, "127.0.0.1")
    assert caller.of({}, "127.0.0.1") != caller.of({}, "::1")
    assert caller.of({"x-api-key": "address ::1"}, "127.0.0.1") != caller.of({}, "::1")


def test_any_bytes_are_a_credential():
    assert caller.of({"authorization": "Bearer \udce9\u20ac"}, "").who


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-timeout": "2.5"}, 2.5),
        ({"x-stainless-read-timeout": "5", "x-stainless-timeout": "7"}, 5.0),
        ({"x-stainless-read-timeout": "NaN"}, math.inf),
        ({"x-stainless-read-timeout": "-1"}, math.inf),
        ({"x-stainless-read-timeout": "1e5"}, math.inf),
        ({"x-stainless-read-timeout": "9" * 1000}, math.inf),
        ({"x-stainless-read-timeout": "٥"}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_client_that_says_how_long_it_waits_is_believed(headers: dict[str, str], seconds: float):
    assert caller.of(headers, "").patience == seconds

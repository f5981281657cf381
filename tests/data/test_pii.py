"""Personal data is found by its form, and numbers with a checksum only where it is right."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.request import Message
from freehold.data import pii
from freehold.data.rows import Document, Row
from tests.data import strategies


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to ann.lee+x@example.co.uk, or to bob@home.", "Write to [email], or to bob@home."),
        ("<müller@straße.de>", "<[email]>"),
        ("@ann and a@b are none", "@ann and a@b are none"),
        ("IBAN DE89 3704 0044 0532 0130 00, please", "IBAN [iban], please"),
        ("gb82west12345698765432.", "[iban]."),
        ("NO9386011117947", "[iban]"),
        ("DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130 01"),
        ("DE89370400440532013000X", "DE89370400440532013000X"),
        ("ZZ89 3704 0044 0532 0130 00", "ZZ89 3704 0044 0532 0130 00"),
        ("from DE89 3704 0044 0532 0130 00 to GB29 NWBK 6016 1331 9268 19", "from [iban] to [iban]"),
        ("AT61 1904 3002 3457 3201 DE89 3704 0044 0532 0130 00", "[iban] [iban]"),
        ("no 5, nr12 DE89370400440532013000", "no 5, nr12 [iban]"),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFFXXX", "IBAN [iban] BIC COBADEFFXXX"),
        ("card 4111 1111 1111 1111", "card [card]"),
        ("3782-822463-10005", "[card]"),
        ("5555555555554444", "[card]"),
        ("4111 1111 1111 1111 12/27, cvc 123", "[card] 12/27, cvc 123"),
        ("3782 822463 10005 1234", "[card] 1234"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card] [card]"),
        ("2 of 4111 1111 1111 1111 and 3 4111 1111 1111 1111", "2 of [card] and 3 [card]"),
        ("4111 1111 1111 1111-12", "4111 1111 1111 1111-12"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("4444 4444 4444 4444", "4444 4444 4444 4444"),
        ("1234567890123452", "1234567890123452"),
        ("from 192.168.1.20 to 8.8.8.8.", "from [ip] to [ip]."),
        ("2001:db8::8a2e:370:7334", "[ip]"),
        ("127.0.0.1, 0.0.0.0, 999.1.1.1", "127.0.0.1, 0.0.0.0, 999.1.1.1"),
        ("version 1.2.3.4, v1.2.3.4 and 1.2.3.4.5", "version 1.2.3.4, v1.2.3.4 and 1.2.3.4.5"),
        ("at 12:30:45:10", "at 12:30:45:10"),
        ("std::vector<abc::def>", "std::vector<abc::def>"),
        ("Call +44 20 7946 0958 now", "Call [phone] now"),
        ("+49 (0)89 1234567", "[phone]"),
        ("00491701234567", "[phone]"),
        ("(555) 234-5678 or 555-234-5678 x2", "[phone] or [phone] x2"),
        ("call 020 7946 0958.", "call [phone]."),
        ("Tel. 089 / 12 34 56-78", "Tel. [phone]"),
        ("030 1234567 / 030 7654321 / +49 30 111222", "[phone] / [phone] / [phone]"),
        ("01 / 02 / 2024 12:30", "01 / 02 / 2024 12:30"),
        ("order 00004587345", "order 00004587345"),
        ("on 2023-10-11 12:30, or 01.02.2024 12:30", "on 2023-10-11 12:30, or 01.02.2024 12:30"),
        ("0.123456789 and 3.14159265358979", "0.123456789 and 3.14159265358979"),
        ("order 12345678 of 2000000000, 1 000 000 000", "order 12345678 of 2000000000, 1 000 000 000"),
        ("", ""),
        ("No digits at all", "No digits at all"),
    ],
)
def test_what_is_found(text: str, masked: str) -> None:
    assert pii.mask(text) == masked


@given(st.text(st.sampled_from("0123456789 +-.()@:abcDEFx/"), max_size=80))
def test_hits_stand_apart_and_in_their_order(text: str) -> None:
    hits = pii.find(text)
    assert all(0 <= hit.begin < hit.end <= len(text) and hit.kind in pii.KINDS for hit in hits)
    assert all(one.end <= other.begin for one, other in pairwise(hits))


@given(st.integers(0, 10**18 - 1))
def test_an_iban_made_of_any_account_is_found_and_one_with_a_wrong_digit_is_not(account: int) -> None:
    body = f"{account:018d}"
    check = 98 - int(f"{body}131400") % 97
    iban = f"DE{check:02d}{body}"
    assert pii.mask(iban) == "[iban]"
    wrong = f"DE{check:02d}{body[:-1]}{(int(body[-1]) + 1) % 10}"
    assert "[iban]" not in pii.mask(wrong)


@given(st.integers(0, 10**14 - 1))
def test_a_card_number_is_found_with_one_of_ten_last_digits(number: int) -> None:
    found = [last for last in range(10) if pii.mask(f"4{number:014d}{last}") == "[card]"]
    assert len(found) == 1 or len(set(f"4{number:014d}")) == 1


@given(strategies.ANY)
def test_what_is_masked_holds_nothing_any_more(row: object) -> None:
    [masked], _ = pii.masked([row], "line")  # type: ignore[list-item]
    assert not pii.kinds_in(masked)


def test_findings_name_lines_and_never_what_stands_there() -> None:
    rows = [Document("Write to ann@example.org or bob@example.org", 3), Document("Nothing", 4)]
    [found] = pii.kept(rows, "page")
    assert found.said() == "1 row holds e-mail addresses (page 3)"
    assert pii.kinds_in(rows[0]) == {"email": 2}
    [kept], [gone] = pii.dropped(rows, "line")
    assert kept is rows[1]
    assert "ann" not in gone.said()


def test_every_text_of_a_row_is_looked_at() -> None:
    row = Row((Message("user", "x"), Message("assistant", "y", reasoning="ann@example.org")), 1)
    [masked], _ = pii.masked([row], "line")
    assert masked.messages[1].reasoning == "[email]"

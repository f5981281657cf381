"""Who is sent away counts until it is to be back, and no more than there is in the queue."""

from freehold.serving.returning import Returning


def test_each_counts_until_it_is_to_be_back():
    returning = Returning()
    returning.told(10, now=0.0, seconds=5, most=100)
    returning.told(20, now=1.0, seconds=2, most=100)
    assert [returning.tokens(now) for now in (1.0, 2.9, 3.0, 4.9, 5.0, 6.0)] == [30, 30, 10, 10, 0, 0]


def test_whoever_comes_again_and_again_counts_no_more_than_the_queue():
    returning = Returning()
    for _ in range(1000):
        returning.told(10, now=0.0, seconds=60, most=95)
    assert returning.tokens(0.0) == 100
    assert returning.tokens(60.0) == 0

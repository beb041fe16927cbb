"""When a node counts as joining, from slots alone."""

from __future__ import annotations

from ponas_node.following import Following

LIMIT = 10


class Kept(dict):
    def put(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def delete(self, key: bytes) -> None:
        self.pop(key, None)


def test_a_node_that_kept_up_is_live_and_stays_so() -> None:
    following = Following(LIMIT, Kept())
    for slot in range(100):
        assert following.look(slot, max(0, slot - LIMIT)) is None


def test_a_node_that_was_away_joins_from_its_tip_until_it_has_followed_for_a_while() -> None:
    kept = Kept()
    following = Following(LIMIT, kept)
    assert following.look(111, 100) == 100
    assert following.look(112, 105) == 100  # a recent tip is not enough: the first peer may have made it up
    assert Following(LIMIT, kept).look(113, 112) == 100  # nor is a restart
    assert following.look(121, 121) == 100
    assert following.look(122, 121) is None
    assert Following(LIMIT, kept).look(123, 122) is None


def test_losing_touch_again_starts_the_wait_anew_and_keeps_the_first_tip() -> None:
    following = Following(LIMIT, Kept())
    assert following.look(200, 100) == 100
    assert following.look(201, 195) == 100
    assert following.look(209, 198) == 100
    assert following.look(212, 211) == 100
    assert following.look(221, 220) == 100
    assert following.look(222, 221) is None


def test_a_clock_that_is_set_back_does_not_end_the_wait_early() -> None:
    following = Following(LIMIT, Kept())
    assert following.look(200, 100) == 100
    assert following.look(300, 299) == 100
    assert following.look(150, 299) == 100
    assert following.look(159, 299) == 100
    assert following.look(160, 299) is None

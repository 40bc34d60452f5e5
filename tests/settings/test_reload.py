"""When a reload is due, and the digest of what is watched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.settings.model import Block, ListenAddress, ProcessOptions, ReloadOptions, Settings
from resolver.settings.reload import Watch, digest_watched, next_check_s, options_of
from tests.settings.support import FakeMachine


def test_only_a_changed_digest_is_due() -> None:
    watch = Watch("a")
    assert not watch.due("a")
    assert watch.due("b")


def test_what_was_loaded_is_not_due_again() -> None:
    watch = Watch("a")
    watch.loaded("b")
    assert not watch.due("b")
    assert watch.due("a")


def test_what_failed_is_not_tried_again_until_it_changes() -> None:
    watch = Watch("a")
    watch.failed("b")
    assert not watch.due("b")
    assert watch.due("c")
    assert not watch.due("a")


def test_a_failure_is_forgotten_when_something_loads() -> None:
    watch = Watch("a")
    watch.failed("b")
    watch.loaded("c")
    assert watch.due("b")


def test_a_signal_loads_whatever_the_digest_says() -> None:
    watch = Watch("a")
    watch.failed("b")
    assert watch.due("a", forced=True)
    assert watch.due("b", forced=True)


@given(interval_s=st.floats(2, 3600), share=st.floats(0, 0.5), chance=st.floats(0, 1, exclude_max=True))
def test_the_wait_stays_within_half_of_the_jitter(interval_s: float, share: float, chance: float) -> None:
    options = ReloadOptions(interval_s, interval_s * share)
    assert abs(next_check_s(options, chance) - interval_s) <= options.jitter_s / 2 + 1e-9
    assert next_check_s(options, chance) >= interval_s * 0.75 - 1e-9


def settings_with(*options: ReloadOptions | None, signalled: bool = False) -> Settings:
    blocks = tuple(Block(zones=(".",), listen=(ListenAddress("", 53),), reload=each) for each in options)
    return Settings(blocks, ProcessOptions(reload_with_signal=signalled))


#        settings, options of the process
OPTIONS = [
    pytest.param(settings_with(None), None, id="no directive"),
    pytest.param(settings_with(ReloadOptions(30, 15), None), ReloadOptions(30, 15), id="one"),
    pytest.param(
        settings_with(ReloadOptions(30, 15), ReloadOptions(9, 1)), ReloadOptions(9, 1), id="the last counts"
    ),
    pytest.param(settings_with(ReloadOptions(0, 0)), None, id="0s is never"),
    pytest.param(settings_with(None, signalled=True), ReloadOptions(10, 0), id="-reloadwithsignal"),
    pytest.param(settings_with(ReloadOptions(30, 15), signalled=True), ReloadOptions(10, 0), id="it is quicker"),
    pytest.param(settings_with(ReloadOptions(5, 2), signalled=True), ReloadOptions(5, 2), id="unless it is not"),
]


@pytest.mark.parametrize(("settings", "options"), OPTIONS)
def test_one_block_speaks_for_the_process(settings: Settings, options: ReloadOptions | None) -> None:
    assert options_of(settings) == options


WATCHED = ("/c", "/d/*.conf", "/cm")


def machine() -> FakeMachine:
    return FakeMachine({"/c": "1", "/d/a.conf": "2", "/cm/key": "3", "/cm/..data/key": "3"})


#        change, does the digest see it?
CHANGES = [
    pytest.param({"/c": "x"}, True, id="a file"),
    pytest.param({"/d/a.conf": "x"}, True, id="a file of a pattern"),
    pytest.param({"/d/b.conf": ""}, True, id="a new file of a pattern"),
    pytest.param({"/d/b.txt": ""}, False, id="a file beside the pattern"),
    pytest.param({"/cm/key": "x"}, True, id="a key of a ConfigMap"),
    pytest.param({"/cm/other": ""}, True, id="a new key of a ConfigMap"),
    pytest.param({"/cm/.hidden": "x"}, False, id="a hidden file"),
    pytest.param({"/other": "x"}, False, id="what is not watched"),
]


@pytest.mark.parametrize(("change", "seen"), CHANGES)
def test_the_digest_sees_what_is_watched(change: dict[str, str], seen: bool) -> None:
    before, after = machine(), machine()
    after.files |= {path: text.encode() for path, text in change.items()}
    assert (digest_watched(WATCHED, before) != digest_watched(WATCHED, after)) is seen


def test_a_file_that_is_gone_differs_from_an_empty_one() -> None:
    gone, empty = FakeMachine(), FakeMachine({"/c": ""})
    assert digest_watched(["/c"], gone) != digest_watched(["/c"], empty)


def test_content_that_moves_between_files_is_seen() -> None:
    one = FakeMachine({"/a": "xy", "/b": ""})
    two = FakeMachine({"/a": "x", "/b": "y"})
    assert digest_watched(["/a", "/b"], one) != digest_watched(["/a", "/b"], two)

"""What every command has in common, as a user sees it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result
from pytest_mock import MockerFixture

from gateway.cli.boards.pair import reset_warning
from gateway.cli.boards.pair import summary as paired_line
from gateway.cli.common import edge_names
from gateway.cli.main import main


def ending_with(mocker: MockerFixture, problem: BaseException, *arguments: str) -> Result:
    mocker.patch("click.Group.invoke", side_effect=problem)
    return CliRunner().invoke(main, arguments)


def test_a_bug_of_ours_is_one_line_with_what_to_do(mocker: MockerFixture) -> None:
    result = ending_with(mocker, KeyError("http"), "status")
    assert result.exit_code == 1
    assert "a bug: KeyError: 'http'" in result.output
    assert "Traceback" not in result.output
    assert len(result.output.splitlines()) == 1


def test_the_traceback_of_a_bug_is_there_for_who_asks(mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_TRACEBACK", "1")
    assert isinstance(ending_with(mocker, KeyError("http"), "status").exception, KeyError)


def test_ctrl_c_ends_a_command_without_a_word(mocker: MockerFixture) -> None:
    result = ending_with(mocker, KeyboardInterrupt(), "status")
    assert (result.exit_code, result.output) == (130, "")


def test_edges_of_boards_that_share_a_role_are_told_apart() -> None:
    twins = [{"id": f"serial:{board}.temp->mqtt:attic/temp", "label": "attic.temp->mqtt:attic/temp"} for board in "ab"]
    other = {"id": "serial:a.temp->mqtt:hall/in", "label": "attic.temp->hall.in"}
    assert edge_names([*twins, other], "id") == [twins[0]["id"], twins[1]["id"], "attic.temp->hall.in"]


@pytest.mark.parametrize(
    ("by_us", "may_open", "said"), [(True, True, True), (True, False, False), (False, False, True), (False, True, True)]
)
def test_what_opening_does_to_a_board_is_said_unless_we_may_not_open_it(
    mocker: MockerFixture, *, by_us: bool, may_open: bool, said: bool
) -> None:
    mocker.patch("os.path.exists", return_value=True)
    mocker.patch("os.access", return_value=may_open)
    text = reset_warning("/dev/ttyACM0", 1.5, by_us=by_us)
    assert text.startswith("opening /dev/ttyACM0: this resets most boards") is said
    assert bool(text) is said


def test_pairing_says_in_a_line_of_its_own_which_settings_are_gone() -> None:
    port = {"name": "temp", "direction": "out", "type": "number"}
    paired = {"role": "attic", "id": "a-1", "port": "/dev/x", "baud": 9600, "wire": "w10", "managed": True}
    paired |= {"again": True, "ports": [port], "forgotten": []}
    assert (
        paired_line(paired)
        == "attic: paired again as a-1 on /dev/x (9600 baud, w10); runs its graph; ports: temp (out)"
    )
    told = paired_line(paired | {"forgotten": ["fan", "heat"]}).splitlines()
    assert told[1:] == ["attic: the settings of ports that it has no more are gone: fan, heat"]

"""The FBP runtimes of boards, by id, or by a role that one board alone has."""

from __future__ import annotations

from gateway.errors import Conflict, NotFound
from gateway.fbp.runtime.backend import Backend
from gateway.model.graph import Graph
from gateway.model.participant import BoardState
from gateway.serial_link.paired.boards import Boards
from gateway.serial_link.paired.fbp_handle import BoardFbpHandle
from gateway.serial_link.paired.graph_store import BoardGraphStore
from gateway.serial_link.records.profile import BoardProfile
from gateway.web.board_runtime import BoardRuntime

IN_TROUBLE = frozenset({BoardState.REFUSED, BoardState.BACKING_OFF})


class BoardRuntimes:
    """A runtime is made when somebody first asks for it, and lives as long as its board is paired."""

    def __init__(self, boards: Boards, graphs: BoardGraphStore) -> None:
        self._boards = boards
        self._graphs = graphs
        self._made: dict[str, BoardRuntime] = {}
        self._states: dict[str, BoardState] = {}
        self._roles: dict[str, str] = {}
        graphs.on_graph = self._replaced
        boards.on_repaired = self._paired_again

    def runtime(self, name: str) -> Backend | None:
        """The runtime of a board; None if no board of this name is paired, or several are."""
        try:
            board_id = self._boards.find(name).id
        except (NotFound, Conflict):
            return None
        if board_id not in self._made:
            self._made[board_id] = BoardRuntime(BoardFbpHandle(self._boards, self._graphs, board_id))
            self._roles[board_id] = self._boards.record(board_id).role
        return self._made[board_id]

    def changed(self) -> None:
        """Boards came or went, or are in another state: who looks at one that is in trouble is told.

        A board's role is in the address of its runtime and in the id of its graph: with another one the runtime is another.
        """
        roles = {record.id: record.role for record in self._boards.records()}
        for board_id in [known for known in self._made if roles.get(known) != self._roles[known]]:
            self._made.pop(board_id).ended()
        for board_id, runtime in self._made.items():
            status = self._boards.state(board_id)
            if status.state in IN_TROUBLE and self._states.get(board_id) is not status.state:
                runtime.failed(f"the board is {status.state}: {status.reason}")
            self._states[board_id] = status.state

    def _paired_again(self, board_id: str, before: BoardProfile) -> None:
        if board_id in self._made:
            self._made[board_id].paired_again(before.graph, before.library)

    def _replaced(self, board_id: str, before: Graph, after: Graph) -> None:
        if board_id in self._made:
            self._made[board_id].replaced(before, after)

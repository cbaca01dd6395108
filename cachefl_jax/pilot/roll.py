"""Which site is which node of Flower's, who is there, and what all sites were sent and sent back."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.messages import arrays_of, ask_record, payload
from cachefl_jax.pilot.rounds import Answer

POLL = 1.0  # seconds between two looks at who has come
ANSWER = 600.0  # seconds in which a site must have encoded its images
REPLIES = 0.3  # seconds between two looks for answers


class Limits(NamedTuple):
    """How long a round waits for its sites, in seconds."""

    whole: float  # the most that it may last
    late: float = 0.0  # after the last answer, for further ones; 0: as long as the round may last


class Heard(NamedTuple):
    """What came of a round."""

    answers: dict[int, Answer]  # by the sites' numbers
    up: int  # bytes of the arrays that came
    down: int  # bytes of the arrays that were sent


class Roll:
    """The sites of a pilot.

    Args:
        grid: Flower's connection to them.
        names: of all sites, by number.
        setup: what each is sent before it trains.
        say: takes a line for the person at the server.
    """

    def __init__(self, grid: Grid, names: list[str], setup: RecordDict, say: Callable[[str], None]):
        self.grid, self.names, self.setup, self.say = grid, names, setup, say
        self.nodes: dict[int, int] = {}  # node of each site that is there
        self.rows: dict[int, int] = {}
        self.known: set[int] = set()  # nodes that were asked for their name

    def welcome(self) -> None:
        """Asks every node that has newly come for its name and rows.

        Raises UsageError: a site refuses, is not on the list, or came back with other rows."""
        new = [node for node in self.grid.get_node_ids() if node not in self.known]
        if not new:
            return
        self.known.update(new)
        asked = [Message(self.setup, node, "query.setup") for node in new]
        for reply in self.replies(asked, Limits(ANSWER)):
            if reply.has_error():
                self.say(f"a node did not answer: {reply.error.reason}")
                continue
            site = content_of(reply, "a site")["site"]
            self.enter(str(site["name"]), int(site["rows"]), reply.metadata.src_node_id)

    def enter(self, name: str, rows: int, node: int) -> None:
        """Notes a site. Raises UsageError: as `welcome`."""
        if name not in self.names:
            raise UsageError("--name", name, f"one of --sites, {', '.join(self.names)}", "correct the site's --name")
        number = self.names.index(name)
        if self.rows.setdefault(number, rows) != rows:
            allowed = f"{self.rows[number]} rows, as it began with"
            raise UsageError("--data", f"{rows} rows of {name}", allowed, "bring its images back, or begin anew")
        self.nodes[number] = node
        self.say(f"{name} is there: {rows} rows")

    def wait_for_all(self, seconds: float) -> None:
        """Until every site has come. Raises UsageError: some have not, or as `welcome`."""
        ends = time.monotonic() + seconds
        while True:
            self.welcome()
            missing = [name for number, name in enumerate(self.names) if number not in self.nodes]
            if not missing:
                return
            if time.monotonic() > ends:
                allowed = f"all of --sites within {seconds:g} seconds"
                raise UsageError(
                    "--sites", f"{', '.join(missing)} did not come", allowed, "start them, or raise --wait"
                )
            time.sleep(POLL)

    def replies(self, asked: Iterable[Message], limits: Limits) -> Iterator[Message]:
        """Answers as they come, until all are there or the time is up."""
        waiting, last = set(self.grid.push_messages(asked)), time.monotonic() + limits.whole
        ends = last
        while waiting and time.monotonic() < ends:
            found = list(self.grid.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in found}
            if found and limits.late:
                ends = min(last, time.monotonic() + limits.late)
            yield from found
            if waiting:
                time.sleep(REPLIES)

    def ask(self, numbers: list[int], leaves: list, number: int, limits: Limits) -> Heard:
        """A round's work of these sites, of whom those that are not there, or do not answer in time, are left out: who
        did not answer is asked again once it has been started anew.

        Raises UsageError: a site refuses."""
        self.welcome()
        present = {self.nodes[site]: site for site in numbers if site in self.nodes}
        numbers_of = {"number": number, "largest": max(self.rows.values())}
        contents = {node: ask_record(leaves, client=site, **numbers_of) for node, site in present.items()}
        asked = [Message(content, node, "train", group_id=str(number + 1)) for node, content in contents.items()]
        answers, up = {}, 0
        for reply in self.replies(asked, limits) if asked else ():
            if reply.has_error():
                continue
            site = present[reply.metadata.src_node_id]
            content = content_of(reply, self.names[site])
            answers[site] = Answer(arrays_of(content["update"]), float(content["told"]["loss"]))
            up += payload(content["update"])
        for site in present.values():
            if site not in answers:
                self.say(f"round {number + 1}: {self.names[site]} did not answer and is left out")
                del self.nodes[site]
        return Heard(answers, up, sum(payload(content["params"]) for content in contents.values()))


def content_of(reply: Message, who: str) -> RecordDict:
    """What a site sent. Raises UsageError: it refuses."""
    if "refused" in reply.content:
        raise UsageError(who, "refused", "a site that goes with the server", str(reply.content["refused"]["line"]))
    return reply.content

"""Which site is which node of Flower's, who is there, and what all sites were sent and sent back."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from cachefl_jax.data.classes import plain
from cachefl_jax.errors import UsageError
from cachefl_jax.pilot.messages import arrays_of, ask_record, ended_record, payload, refusal_in, refusal_record
from cachefl_jax.pilot.rounds import Answer

POLL = 1.0  # seconds between two looks at who has come
FAREWELL = 20.0  # seconds in which sites that still answer are told of the end
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
    """The sites of a pilot. One that is refused is told so, as is the server, which waits for the right one.

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
        self.there: set[int] = set()  # nodes that Flower sees
        self.asked: set[str] = set()  # messages to nodes that have not yet told their name
        self.begun = False  # whether all sites have come, whose rows must then stay as many

    def welcome(self) -> None:
        """Asks every node that has newly come for its name and rows, and notes who has answered."""
        self.there = set(self.grid.get_node_ids())
        new = [node for node in self.there if node not in self.known]
        self.known.update(new)
        if new:
            self.asked.update(self.grid.push_messages([Message(self.setup, node, "query.setup") for node in new]))
        for reply in list(self.grid.pull_messages(self.asked)) if self.asked else ():
            self.asked.discard(reply.metadata.reply_to_message_id)
            if reply.has_error():
                self.say(f"a site left before it had told its name ({reply.error.reason})")
            elif refused := refusal_in(reply.content):
                self.say(f"{refused[0]} is refused: {refused[1]}")
            else:
                site, node = reply.content["site"], reply.metadata.src_node_id
                self.enter(str(site["name"]), int(site["rows"]), node)

    def enter(self, name: str, rows: int, node: int) -> None:
        """Notes a site, or refuses it: it is not on the list, is there already, or came back with other rows."""
        if name not in self.names:
            near = [each for each in self.names if plain(each) == plain(name)]
            allowed, mend = "a name that the server expects", f"--name={near[0]}" if near else "ask at the server"
            return self.refuse(UsageError("--name", name, allowed, mend), name, node)
        number = self.names.index(name)
        before, other = self.rows.get(number), self.nodes.get(number)
        if before not in (None, rows) and (self.begun or other in self.there):
            allowed = f"{before} rows, as {name} {'began' if self.begun else 'is there already'} with"
            mend = (
                "bring its images back, or begin anew" if self.begun else "end the other one first, or correct --name"
            )
            return self.refuse(UsageError("--data", f"{rows} rows of {name}", allowed, mend), name, node)
        self.nodes[number], self.rows[number] = node, rows
        missing = self.missing()
        self.say(f"{name} is there: {rows} rows" + (f"; waiting for {', '.join(missing)}" if missing else ""))

    def refuse(self, error: UsageError, name: str, node: int) -> None:
        """Says so here and at the site, which ends."""
        expected = "" if name in self.names else f" (the sites are {', '.join(self.names)})"
        self.say(f"{name} is refused: {error}{expected}")
        self.grid.push_messages([Message(refusal_record(error, name), node, "query.refused")])

    def missing(self) -> list[str]:
        """The names of sites that are not there."""
        return [name for number, name in enumerate(self.names) if number not in self.nodes]

    def wait_for_all(self, seconds: float) -> None:
        """Until every site has come. Raises UsageError: some have not."""
        ends = time.monotonic() + seconds
        while True:
            self.welcome()
            missing = self.missing()
            if not missing:
                self.begun = True
                return
            if time.monotonic() > ends:
                allowed = f"all of --sites within {seconds:g} seconds"
                raise UsageError(
                    "--sites", f"{', '.join(missing)} did not come", allowed, "start them, or raise --wait"
                )
            time.sleep(POLL)

    def farewell(self, rounds: int | None) -> None:
        """Tells the sites that the pilot has ended; `rounds` as of `ended_record`."""
        there = set(self.nodes.values()) & set(self.grid.get_node_ids())
        content = ended_record(rounds)
        for _ in self.replies([Message(content, node, "query.ended") for node in there], Limits(FAREWELL)):
            pass

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
        """A round's work of these sites, of whom those that are not there, refuse, or do not answer in time are left
        out: they are asked again once they have been started anew."""
        self.welcome()
        ends = time.monotonic() + limits.whole
        while self.asked and not any(site in self.nodes for site in numbers) and time.monotonic() < ends:
            time.sleep(REPLIES)  # nobody else is there: who has been started anew may still be encoding
            self.welcome()
        present = {self.nodes[site]: site for site in numbers if site in self.nodes}
        numbers_of = {"number": number, "largest": max(self.rows.values())}
        contents = {node: ask_record(leaves, client=site, **numbers_of) for node, site in present.items()}
        asked = [Message(content, node, "train", group_id=str(number + 1)) for node, content in contents.items()]
        answers, why = {}, dict.fromkeys(present.values(), "did not answer")
        up = 0
        for reply in self.replies(asked, limits) if asked else ():
            if reply.has_error():
                continue
            site, content = present[reply.metadata.src_node_id], reply.content
            if refused := refusal_in(content):
                why[site] = f"refuses ({refused[1]})"
                continue
            answers[site] = Answer(arrays_of(content["update"]), float(content["told"]["loss"]))
            up += payload(content["update"])
        for site in present.values():
            if site not in answers:
                self.say(f"round {number + 1}: {self.names[site]} {why[site]} and is left out")
                del self.nodes[site]
        return Heard(answers, up, sum(payload(content["params"]) for content in contents.values()))

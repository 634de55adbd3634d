"""The sampler whose chains come from many engines."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

from policies.prompt import Prompt
from policies.ray_engines.actor import Finished, StartEngine
from policies.ray_engines.cluster import joined, reason_of, room_for
from policies.ray_engines.engine import Engine, status_of
from policies.ray_engines.images import ImageSource, SentImages
from policies.ray_engines.roster import ClusterSettings, Probe, Roster
from policies.sampler import Chain, Check, EngineStatus, Refuse, Request, RequestRefused, Say

SHARES = 4
"""A call returns when this part of what an engine may have waiting has finished."""


class RayEngines:
    """Engines behind the interface of one; see `policies.sampler.Sampler`.

    Requests have their own seeds and keys, so the samples do not depend on the engine that answers. Each engine gets
    more requests as it finishes some, so a slow one gets fewer. The requests of a lost engine go to the others.
    """

    def __init__(
        self, model: Path, start_engine: StartEngine, images: ImageSource, settings: ClusterSettings, say: Say
    ) -> None:
        self._settings, self._images = settings, SentImages(images)
        self._share = max(1, settings.waiting // SHARES)
        with ExitStack() as stack:
            stack.enter_context(joined(settings.address))
            replicas = room_for(settings.replicas, settings.each, settings.kept)
            self._roster = Roster(replicas, settings, start_engine, images.decode, model, say)
            stack.callback(self._roster.close)
            self._roster.serving()
            self._open = stack.pop_all()
        self._next = 0

    def sample(self, requests: Iterable[Request], refused: Refuse | None = None) -> Iterator[Chain]:
        """Chains in the order in which they finish, each exactly once, even if engines are lost.

        If the consumer stops early, requests in flight are abandoned.
        """
        import ray

        ahead = _Requests(requests)
        try:
            while True:
                self._hand_out(ahead)
                waiting = {engine.calls[0]: engine for engine in self._roster.serving() if engine.calls}
                begun = {e.reviving[-1]: e for e in self._roster.engines if e.reviving is not None}
                if not waiting and not ahead:
                    return
                done, _ = ray.wait([*waiting, *begun], num_returns=1)
                for call in done:
                    if call in begun:
                        self._roster.admit(begun[call])
                    else:
                        yield from self._finished(waiting[call], ahead, refused)
        finally:
            self._abandon()

    def load_weights(self, directory: Path) -> str:
        """Swap the weights of every engine; returns the sha256 of what they loaded."""
        return self._roster.load(directory)

    def prove(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], check: Check) -> list[float]:
        """Let every engine score the probe, now and after each restart."""
        images = self._images.references(prompt for prompt in prompts)
        return self._roster.prove(Probe(list(prompts), [tuple(each) for each in completions], images, check))

    def status(self) -> list[EngineStatus]:
        """Every engine's place, weights and figures."""
        return [status_of(engine) for engine in self._roster.engines]

    def close(self) -> None:
        """Free every engine, and Ray if it was started for them."""
        self._open.close()

    def _hand_out(self, ahead: "_Requests") -> None:
        """Give each engine as many requests as it may still take, one share per engine in turn.

        Two calls are with an engine at once, so that it never waits for the controller. The last share is kept for the
        second call.
        """
        rooms = {}
        for engine in self._roster.serving():
            free = self._settings.waiting - len(engine.asked)
            rooms[engine.number] = free - self._share if not engine.calls else free if len(engine.calls) == 1 else 0
        batches: dict[int, list[Request]] = {number: [] for number in rooms}
        hungry = deque(number for number, room in rooms.items() if room > 0)
        while hungry and ahead:
            number = hungry.popleft()
            batches[number] += ahead.take(min(self._share, rooms[number] - len(batches[number])))
            if len(batches[number]) < rooms[number]:
                hungry.append(number)
        for number, batch in batches.items():
            engine = self._roster.engines[number]
            if batch or (engine.asked and not engine.calls):
                self._ask(engine, batch)

    def _ask(self, engine: Engine, batch: Sequence[Request]) -> None:
        numbered = []
        for request in batch:
            engine.asked[self._next] = request
            numbered.append(replace(request, key=self._next))
            self._next += 1
        images = self._images.references(request.prompt for request in batch)
        engine.calls.append(engine.actor.work.remote(self._roster.sha256, numbered, images, self._share))

    def _finished(self, engine: Engine, ahead: "_Requests", refused: Refuse | None) -> Iterator[Chain]:
        """Yield the chains of the engine's oldest call; if the engine is lost, its requests are sent again."""
        import ray

        try:
            finished: Finished = self._roster.log(engine, ray.get(engine.calls.popleft()))
        except ray.exceptions.RayError as error:
            ahead.put_back(engine.asked.values())
            self._roster.lose(engine, reason_of(error))
            return
        engine.answered(finished.chains, finished.seconds)
        for number, reason in finished.refused:
            request = engine.asked.pop(number)
            if refused is None:
                raise RequestRefused(request.key, reason)
            refused(request, reason)
        for chain in finished.chains:
            key = engine.asked.pop(int(str(chain.key))).key
            yield Chain(key, chain.text, chain.token_ids, chain.logprob, chain.finish_reason)

    def _abandon(self) -> None:
        """Forget the requests in flight; an engine does the calls that are already in its queue first."""
        for engine in self._roster.engines:
            if engine.asked and engine.actor is not None and engine.reviving is None:
                engine.actor.abandon.remote()
            engine.asked.clear()
            engine.calls.clear()


class _Requests:
    """Requests that no engine has; true while there are any. Those of lost engines come first."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._source, self._back = iter(requests), deque[Request]()

    def __bool__(self) -> bool:
        self._back.extend(() if self._back else islice(self._source, 1))
        return bool(self._back)

    def take(self, count: int) -> list[Request]:
        """The next requests, at most `count`."""
        back = [self._back.popleft() for _ in range(min(count, len(self._back)))]
        return back + list(islice(self._source, count - len(back)))

    def put_back(self, requests: Iterable[Request]) -> None:
        """Put requests back, to be taken again."""
        self._back.extend(requests)

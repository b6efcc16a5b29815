"""One run of a model: a prompt and everything that is decoded from it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from copy import copy
from typing import Any

from torch import Tensor

from headwise.errors import FixError
from headwise.layout import ROLES, Axis, TokenLayout, extend, generic_axis
from headwise.probes.generation.axes import lengthened, of_recordings, shortened, with_generated
from headwise.probes.generation.beams import BeamSearch
from headwise.probes.generation.cache_events import Choice
from headwise.probes.generation.generate_call import DecodingLoop, GenerateCall
from headwise.probes.generation.given import Given
from headwise.probes.generation.results import RunResult, computed
from headwise.probes.memory import Memory


class Generation:
    """One prompt and everything decoded from it: the tokens so far, and what was recorded about them."""

    def __init__(self, language: str, layout: TokenLayout, call: GenerateCall | None = None) -> None:
        self.language = language
        self.call = call
        """The call of `generate` that it began in; None outside of one."""
        self.loop: DecodingLoop | None = None
        """The loop that its prompt was read for; None outside of one."""
        self.branch = False
        """True for what runs beside the prompt: a contrastive branch, the drafts of an assistant."""
        self.search: BeamSearch | None = None
        """The beam search that decodes from its prompt; None for another way of decoding."""
        self.windows: tuple[tuple[int, float], ...] = ()
        """Windows of sounds that its examples are, where that is known: see `SoundWindows`."""
        self.kept_examples: Tensor | None = None
        """Its only examples that were not read again later; None for all."""
        self.axes: dict[str, Axis] = dict(layout.axes)
        self.prompt = 0
        """Positions of the first call, and of what was cached before it."""
        self.length = 0
        """Positions so far, those of the call under way included."""
        self.cached_before = 0
        """Positions that were cached before the first call."""
        self.past = 0
        """Position of the first row of the call under way."""
        self.drafts = 0
        """Number of drafts, which may be rolled back, among the last positions."""
        self.indivisible: str | None = None
        """The fix that has to see its prompt as a whole; None where all can do with pieces."""
        self.ids: Tensor | None = None
        self.batch = 0
        """Examples of the call under way, or of the last one."""
        self.given: Given = {}
        """What its prompt was given beside its ids."""
        self.origin: Tensor | None = None
        """Example of its first call that every example was; None while they stand as they came."""
        self.complete = False
        """True once a call of `generate` that decoded it is over."""
        self.cropped = 0
        """Positions of the prompt that were read and then cropped from the cache."""
        self.towers: set[str] = set()
        self.buffers: dict[Any, Any] = {}
        self.readings = 0
        """Number of times that the whole sequence was read again, for want of a cache."""
        self.read: dict[Any, int] = {}
        """In which of these readings a site of another tower was last reached."""
        self.forecast: set[tuple[str, str]] = set()
        """Towers and kinds whose patterns were found to fit, before any was made."""
        self._memories: dict[int, Memory] = {}
        self._cache: weakref.ref | None = None
        self._order: Tensor | None = None
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        self._padded: bool | None = None

    def snapshot(self) -> Generation:
        """The same as it is now; what comes later does not change it."""
        twin = copy(self)
        twin.axes, twin.towers, twin.buffers = dict(self.axes), set(self.towers), dict(self.buffers)
        twin._pending, twin.read = list(self._pending), dict(self.read)
        twin._memories = {number: memory.snapshot() for number, memory in self._memories.items()}
        return twin

    @property
    def cached(self) -> bool:
        """True once it has a key-value cache."""
        return self._cache is not None

    @property
    def alive(self) -> bool:
        """True while its key-value cache exists."""
        return self._cache is not None and self._cache() is not None

    def memory(self, number: int) -> Memory:
        """Memory that the `number`-th fix of the session has of this run."""
        return self._memories.setdefault(number, Memory())

    def owns(self, cache: object) -> bool:
        """True when `cache` is the key-value cache of this run."""
        return self._cache is not None and self._cache() is cache

    def set_cache(self, cache: object | None) -> None:
        """Makes `cache` the key-value cache of this run; None when its own is used for something else."""
        self._cache = None if cache is None else weakref.ref(cache)

    def search_beams(self, beams: int) -> Callable[[Tensor, Tensor], None]:
        """Its prompt is decoded by a beam search; returns what hears of every decision of the stopping criteria."""
        search = self.search = BeamSearch(
            beams,
            language=self.language,
            once_read=frozenset(self.towers),
            layout=self.layout,
            buffers=self.buffers,
        )
        return lambda ids, done: search.decide(ids, done, self.prompt)

    def close(self, call: GenerateCall) -> None:
        """Its call of `generate` is over: what ran beside the prompts is dropped, the returned beams are known."""
        if self.search is not None:
            self.search.close(call.sequences)
        self.branch = not self.is_example
        if self.branch:
            self.buffers.clear()
        self.call = self.loop = None
        self.complete = True

    @property
    def is_example(self) -> bool:
        """False for what a call of `generate` ran beside its prompts: to detect a language, to contrast, to draft."""
        prelude = self.call is not None and self.loop is None and self.call.loop is not None
        if self.kept_examples is not None and not len(self.kept_examples):
            return False
        return not self.branch and not (prelude and self.language in self.towers)

    def append(self, ids: Tensor | None, new: int, padding: Tensor | None) -> None:
        """Adds the tokens of a continuing call; an example that this call of `generate` has ended is padding."""
        if ids is None:
            self.lengthen(None, new, padding)
            return
        ended = self._ended(len(ids)) if new == 1 and len(ids) > 1 else None
        if ended is not None:
            padding = ended[:, None] if padding is None else padding.to(ended.device) | ended[:, None]
        self._padded = self.padded or (padding is not None and bool(padding.any()))
        self._pending.append((ids.detach().clone(), padding))

    def lengthen(self, chunk: Axis | None, new: int, padding: Tensor | None) -> None:
        """Adds positions of which `chunk` tells the roles; generated ones when it is None."""
        self._flush()
        axis = self.axes.get(self.language)
        if axis is None:
            return
        self.axes[self.language] = lengthened(axis, chunk, new, padding)
        self._padded = None

    @property
    def padded(self) -> bool:
        """True when a position of the language tower may be padding."""
        if self._padded is None:
            axis = self.axes.get(self.language)
            self._padded = axis is not None and not bool(axis.valid.all())
        return self._padded

    def layout(self) -> TokenLayout:
        """Layout of the positions so far."""
        self._flush()
        return TokenLayout(of_recordings(self.axes, self.language))

    def results(self, *, every: bool) -> RunResult:
        """Records; of a beam search those of the returned sequences, or, with `every`, of as many of all its beams."""
        if self.search is not None and self.search.known:
            result = self.search.results(every=every)
        else:
            records, counts = computed(self.buffers)
            result = RunResult(records, self.layout(), None, counts)
        kept = self.kept_examples
        return result if kept is None else result.select(kept, len(self.axes["encoder"].roles))

    def n_prompt_positions(self, tower: str) -> int:
        """Positions of a tower that do not come from decoding."""
        axis = self.axes.get(tower)
        return self.prompt if tower == self.language or axis is None else axis.roles.shape[1]

    def axis(self, tower: str, examples: int, positions: int) -> Axis:
        """The axis of a tower; a generic one where the inputs did not tell, or tell another size."""
        self._flush()
        axis = self.axes.get(tower)
        if axis is not None and axis.roles.shape[1] >= positions:
            known = axis.roles.shape[0]
            if known == examples:
                return axis
            if examples % known == 0:  # beams: the copies of an example stand side by side
                wide = axis.repeat(examples // known)
                if tower == self.language:
                    self.axes[tower] = wide
                return wide
        sound = axis is not None and bool((axis.roles == ROLES.index("audio")).any())
        self.axes[tower] = generic_axis(tower, examples, positions, sound=sound)
        return self.axes[tower]

    def reorder(self, choose: Choice) -> None:
        """Follows the examples of its cache: example b continues what example `index[b]` was.

        Takes effect with the next call: the order in which a search leaves its beams behind means nothing.
        """
        if self._order is None:
            self._order = choose(self.batch)
        else:
            self._order = self._order[choose(len(self._order)).to(self._order.device)]

    def apply_reorder(self) -> None:
        """Puts examples in the order that the call under way has them."""
        index, self._order = self._order, None
        if index is None:
            return
        self._flush()
        cpu = index.cpu()
        self.origin = cpu if self.origin is None else self.origin[cpu]
        towers = {self.language}
        for tower in {self.language, "encoder"} & set(self.axes):
            axis = self.axes[tower]
            if tower == self.language and len(cpu) != self.batch and not self.batch % len(axis.roles):
                axis = axis.repeat(self.batch // len(axis.roles))
            if len(axis.roles) == self.batch:  # else the encoder read each example once for all its copies
                self.axes[tower] = axis.select(cpu)
                towers.add(tower)
        for site, buffer in self.buffers.items():
            if site.tower in towers:
                buffer.reorder(index)
        for memory in self._memories.values():
            memory.reorder(index, self.batch)

    def mark_generated(self, length: int, fed: int) -> None:
        """Tells what was generated from what was given, where a whole sequence of `fed` ids was read again."""
        axis = self.axes.get(self.language)
        if axis is None or axis.roles.shape[1] != length or self.prompt >= length:
            return
        batch, ends_at = len(axis.roles), None
        if batch > 1 and axis.ids is not None and self.loop is not None and self._ended(batch) is not None:
            ends_at = self.loop.ends_at
        self.axes[self.language] = with_generated(axis, self.prompt, fed, ends_at)
        self._padded = None

    def _ended(self, batch: int) -> Tensor | None:
        return None if self.loop is None else self.loop.ended_examples(batch)

    def roll_back(self, length: int) -> None:
        """Goes on from `length`, which may lie in the prompt.

        Raises:
            FixError: it lies in a prompt that a fix remembers.
        """
        if length < self.prompt and any(self._memories.values()):
            raise FixError(
                "The cache was cropped into the prompt, and a fix remembers what it saw there.",
                evidence=f"the prompt has {self.prompt} positions, and the cache was cropped to {length}",
                remedy="Read the prompt again with an empty cache, or crop no more than what came behind it.",
            )
        self.truncate(length)
        self.cropped += max(0, self.prompt - length)
        self.prompt = min(self.prompt, length)

    def truncate(self, length: int) -> None:
        """Forgets positions from `length` on: a call begins there again.

        Raises:
            CaptureError: it lies amid the rows of a call of which sums were kept.
        """
        buffers = {site: buffer for site, buffer in self.buffers.items() if site.tower == self.language}
        for buffer in buffers.values():
            buffer.statistics.require_separable(length)
        self._flush()
        axis = self.axes.get(self.language)
        if axis is not None:
            self.axes[self.language] = shortened(axis, length)
        self.length = min(self.length, length)
        for site, buffer in buffers.items():
            buffer.truncate(length, keys=site.kind == "self")

    def _flush(self) -> None:
        for ids, padding in self._pending:
            axis = self.axes.get(self.language)
            if axis is None:
                continue
            if len(axis.roles) != len(ids) and len(ids) % len(axis.roles) == 0:
                axis = axis.repeat(len(ids) // len(axis.roles))
            if len(axis.roles) == len(ids):
                self.axes[self.language] = extend(axis, ids, padding)
        self._pending.clear()

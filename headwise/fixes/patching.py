"""`patch`: install fixes on a model, and take them off again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, get_args

from headwise.errors import FixError, InputError, UnsupportedModel
from headwise.fixes.binding import bound
from headwise.probes.check.self_check import self_check
from headwise.probes.engine.instrumentation import Instrumentation, instrument
from headwise.probes.engine.reach import remedy
from headwise.probes.engine.session import Session
from headwise.probes.fix_plan import plan_fix
from headwise.subject import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


State = Literal["active", "finishing", "removed"]
Scope = Literal["model", "thread"]


class Handle:
    """Fixes on a model: a context manager, or call `remove()` when done. Removing twice is no error."""

    def __init__(self, instrumented: Instrumentation, session: Session) -> None:
        self._instrumented, self._session = instrumented, session
        self._idle = all(plan.neutral for plan in session.plans)
        """Fixes that change nothing are not attached at all; the handle is only told apart by `remove`."""
        if not self._idle:
            self._instrumented = instrumented.add(session)

    @property
    def fixes(self) -> tuple[Any, ...]:
        """The installed fixes, in the order in which they act."""
        return self._session.fixes

    @property
    def state(self) -> State:
        """How far the fixes are: "active", then "finishing" while prompts end that other threads began, "removed"."""
        if self._idle:
            return "active"
        self._instrumented.detach_finished()
        if self._session not in self._instrumented.sessions:
            return "removed"
        return "finishing" if self._session.finishing else "active"

    @property
    def active(self) -> bool:
        """True until the fixes are removed: they act on the prompts that begin.

        False, too, once somebody has taken a part of headwise off the model.
        """
        return self.state == "active" and (self._idle or self._instrumented.intact())

    def remove(self) -> None:
        """Takes the fixes off; the model is as it was before they came.

        Prompts that other threads have under way end as they began, patched; until then the handle is "finishing",
        and no new prompt is patched.
        """
        self._idle = False
        if self._session in self._instrumented.sessions:
            self._instrumented.remove(self._session)

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        here = ", this thread alone" if self._session.scope is not None else ""
        return f"Handle({self.state}{here}, {', '.join(type(fix).__name__ for fix in self.fixes)})"


def patch(
    subject: Subject | PreTrainedModel,
    fixes: Any | Iterable[Any],
    *,
    scope: Scope = "model",
    examples: Sequence[int] | None = None,
    check: bool = True,
    force: bool = False,
) -> Handle:
    """Installs fixes on a model; they act in forward, generate and pipelines, until removed.

    Every prompt is patched as a whole or not at all: one that another thread has under way when the fixes arrive
    ends without them, one that is under way when they are removed ends with them. A prompt is a call of `generate`,
    or what a loop decodes with one cache.

    Fixes act in the order given, later patches after earlier ones. A neutral fix (strength that changes nothing) is
    not run at all: the model stays bit for bit what it was. Layers that no fix names keep the model's own kernel.

    Args:
        subject: a `Subject` or a bare transformers model.
        fixes: one fix or several; a text such as `"VAR:p=0.4"` or the path of a spec that `save_spec` wrote may stand
            in place of each. Any object with an `edit(pattern, site, context)` is a fix.
        scope: "model" acts on every thread; "thread" on what this thread does and on nobody else's prompts. Within
            asyncio that is the current task, and what it hands to `asyncio.to_thread`.
        examples: the only examples of every batch that the fixes are for, counted from 0 as they are given to the
            model; all of their beams and replies with them. The others stay, bit for bit, what they were. Only for
            fixes of a language model or of an encoder-decoder.
        check: before the first use of this model, compare its logits with and without the engine on a few tokens,
            and refuse fixes of attention that cannot be reached.
        force: install a spec on another model than it was written for, where the shapes fit.

    Returns:
        A handle: use it in a `with` statement, or keep it and call `remove()`.

    Raises:
        FixError: an object that is no fix, a fix that names a layer or head the model does not have, a spec of
            another model.
        InputError: an unknown scope, examples that are no numbers from 0, a name of no fix.
        NotFitted: a fix whose constants are neither published for this model nor fitted.
        UnsupportedModel: the model has no attention that can be edited.

    Example:
        >>> import torch, headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> with hw.patch(model, hw.fixes.ZeroHeads(heads=((0, 1),))) as handle, torch.no_grad():
        ...     _ = model(input_ids=torch.tensor([[3, 1, 2]]))
        >>> handle
        Handle(removed, ZeroHeads)
    """
    from headwise.fixes.parsing import read_fixes

    model, processor = unwrap(subject)
    if scope not in get_args(Scope):
        raise InputError('scope must be "model" or "thread".', evidence=f"got {scope!r}")
    instrumented = instrument(model)
    several = bound(read_fixes(fixes, model, force=force), model, instrumented)
    if check:
        _require_reach(several, instrumented, self_check(model).unreached)
    chosen = None if examples is None else _examples(examples, several, instrumented.language)
    session = Session(model, processor, instrumented.language, fixes=several, examples=chosen)
    if scope == "thread":
        session.confine()
    return Handle(instrumented, session)


def _examples(examples: Sequence[int], fixes: Iterable[Any], language: str) -> tuple[int, ...]:
    numbers = tuple(examples) if isinstance(examples, Iterable) else ()
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        raise InputError(
            "examples must be a list of numbers from 0.",
            evidence=f"got {examples!r}",
            remedy="For example examples=[0, 2].",
        )
    for plan in map(plan_fix, fixes):
        tower = plan.tower or language
        if tower != language and (tower, language) != ("encoder", "decoder"):
            raise FixError(
                f"{plan.name} acts on the {tower} tower, whose batch is not one of examples.",
                remedy="Patch whole requests with scope='thread'.",
            )
    return numbers


def _require_reach(
    fixes: tuple[Any, ...], instrumented: Instrumentation, unreached: Mapping[str, str]
) -> None:
    for entry in instrumented.modules.values():
        for plan in map(plan_fix, fixes):
            if entry.name in unreached and plan.touches(entry.site(0), instrumented.language):
                raise UnsupportedModel(
                    f"{plan.name} cannot reach {entry.name}.",
                    evidence=unreached[entry.name],
                    remedy=remedy(
                        [entry.module], instrumented.implementation, otherwise="Name other layers."
                    ),
                )

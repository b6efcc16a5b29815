"""Analyses as records: what each needs, takes and finds, said once and read by everyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import WRAPPER_ASSIGNMENTS
from inspect import BoundArguments, Parameter, signature, unwrap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from headwise.analyses.decorator import in_words
from headwise.analyses.pairs import AGREE, require_agreement
from headwise.errors import CaptureError, InputError
from headwise.figures.chart import KINDS
from headwise.plugins import close_names, read_options
from headwise.probes.trace.frames import with_ids
from headwise.probes.trace.nonfinite import caveat
from headwise.results.result import Result, provenance_of

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.trace.trace import Trace

P = ParamSpec("P")

INPUTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"trace": ("trace",), "pair": ("before", "after"), "subject": ("subject", "data")}
)
"""What an analysis takes, and how its first arguments are called: a trace, two traces of the same inputs, or a model
with examples, which it runs itself."""
NEEDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "stats": ("received", "statistics"),
        "maps": ("maps", "attention patterns"),
        "qkv": ("q", "queries, keys and values"),
        "heads": ("z", "head outputs"),
        "residual": ("residual", "residual stream"),
        "norms": ("value_norm", "norms of values"),
        "near": ("near", "weights on the nearest keys"),
        "top": ("top", "sums of the largest weights"),
        "later": ("later", "weights that keys receive from later rows"),
    }
)
"""Option of `hw.capture` -> the field of a record that it keeps, and what that is called."""
_COMPARED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"stats": ("entropy", "received"), "qkv": ("q", "k")}
)
"""The same -> fields whose axes are those of all that it keeps, where that one's are not."""


@dataclass(frozen=True, eq=False)
class Analysis(Generic[P]):
    """An analysis: a function that makes a table, and what is needed to run it, to draw it and to read it.

    Called like its function, it gives a `Result`. Made by the decorator `analysis`.
    """

    table: Callable[P, pd.DataFrame]
    """The function: from its inputs and parameters to the table."""
    kind: str
    """Kind of the result, see `headwise.figures.chart.KINDS`."""
    keys: tuple[str, ...]
    """The columns that name a row; `{by}` stands for the value of a parameter."""
    value: str
    unit: str
    description: str
    """How to read the number; parameters are filled in, as in `str.format`."""
    summary: Callable[..., str]
    """The sentence, made of the table and of those arguments of the analysis that it names, or of `facts`: what the
    function put into `frame.attrs["facts"]` to spare the sentence the same work. Where tables of several shards were
    merged, traces and facts are None."""
    needs: tuple[str, ...] = ("stats",)
    """Options of `hw.capture` without which a trace does not do; see `NEEDS`."""
    inputs: str = "trace"
    """One of `INPUTS`."""
    sizes: Mapping[str, str] = field(default_factory=dict)
    """Option of `hw.capture` -> the parameter that says how much of it is needed, where that is not all or nothing."""
    writes: bool = False
    """True for what is about rows that write tokens: it takes no trace of an encoder alone."""
    sees: bool = False
    """True for what is about images: it takes no trace without one."""
    agree: str = "tokens"
    """What of the tokens of a pair of traces must agree, one of `headwise.analyses.pairs.AGREE`."""
    axes: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    """Parameters that say how it is run and not what it finds, which provenance leaves out."""
    title: str = ""
    """How a page calls it; its name when empty."""
    merge: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    """How rows of several tables that are no examples become one table; None where they have no sum."""
    name: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Check the record, and take the function's name and documentation."""
        for what, said, known in (
            ("kind", (self.kind,), KINDS),
            ("needs", self.needs, NEEDS),
            ("inputs", (self.inputs,), INPUTS),
            ("agree", (self.agree,), AGREE),
        ):
            if unknown := [one for one in said if one not in known]:
                raise InputError(
                    f"The record of an analysis says {what} that headwise does not know.",
                    evidence=", ".join(map(repr, unknown)),
                    remedy=f"Known are {', '.join(known)}.",
                )
        if not (callable(self.table) and callable(self.summary)):
            raise InputError(
                "An analysis and its summary are functions.",
                evidence=f"got {type(self.table).__name__} and {type(self.summary).__name__}",
                remedy="For example summary=lambda frame: ..., above def NAME(trace).",
            )
        object.__setattr__(self, "name", getattr(self.table, "__name__", ""))
        for attribute in WRAPPER_ASSIGNMENTS:
            if hasattr(self.table, attribute):
                object.__setattr__(self, attribute, getattr(self.table, attribute))
        object.__setattr__(self, "__wrapped__", self.table)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Result:
        """Run it.

        Raises:
            CaptureError: a trace lacks what it needs; the call of `hw.capture` that gives it is named.
            InputError: a parameter is unknown, missing or wrong, an input is no trace, the traces of a pair do not
                agree, or its function gave no table of its kind.
        """
        bound = self._bind(args, kwargs)
        sources = list(bound.arguments.values())[: len(INPUTS[self.inputs])]
        parameters = dict(list(bound.arguments.items())[len(sources) :])
        traces = sources if self.inputs != "subject" else []
        for trace in traces:
            self.require(trace)
        if self.inputs == "pair":
            fields = [field for need in self.needs for field in _COMPARED.get(need, NEEDS[need][:1])]
            require_agreement(sources[0], sources[1], agree=self.agree, fields=fields)
        frame = self._checked(self.table(*bound.args, **bound.kwargs), parameters)
        facts = frame.attrs.pop("facts", None)
        meta: Mapping[str, Any] = traces[0].meta if traces else frame.attrs.pop("provenance", {})
        if not traces and (said := getattr(sources[0], "warnings", ())):
            meta = {**meta, "warnings": list(dict.fromkeys((*said, *meta.get("warnings", ()))))}
        told = {name: value for name, value in parameters.items() if name not in self.running}
        provenance = provenance_of(meta, self.name, **told)
        if len(traces) > 1:
            provenance["compared_with"] = dict(traces[1].meta)
        frame = with_ids(frame, traces[0].records, meta.get("ids")) if traces else frame
        found = self.result(frame, parameters, summary="", provenance=provenance)
        return replace(found, summary=self.sentence(frame, parameters, sources, facts) + caveat(meta))

    def _checked(self, frame: Any, parameters: Mapping[str, Any]) -> pd.DataFrame:
        """The table, when it is one and has the columns that the record names."""
        import pandas as pd

        wanted = dict.fromkeys((*(key.format(**parameters) for key in self.keys), self.value))
        remedy = f"Its function returns a pandas.DataFrame with the columns {', '.join(wanted)}."
        if not isinstance(frame, pd.DataFrame):
            raise InputError(
                f"The analysis {self.name!r} gave no table.",
                evidence=f"it gave {type(frame).__name__}",
                remedy=remedy,
            )
        if missing := [name for name in wanted if name not in frame]:
            raise InputError(
                f"The table of the analysis {self.name!r} has no column {', '.join(map(repr, missing))}.",
                evidence=f"columns: {', '.join(map(str, frame))}",
                remedy=remedy,
            )
        return frame

    def result(
        self,
        frame: pd.DataFrame,
        parameters: Mapping[str, Any],
        *,
        summary: str,
        provenance: Mapping[str, Any],
    ) -> Result:
        """A table as the result of this analysis."""
        return Result(
            name=self.name,
            kind=self.kind,
            keys=tuple(key.format(**parameters) for key in self.keys),
            axes=self.axes,
            frame=frame,
            value=self.value,
            unit=self.unit,
            description=self.description.format(**parameters),
            summary=summary,
            provenance=provenance,
        )

    def sentence(
        self,
        frame: pd.DataFrame,
        parameters: Mapping[str, Any],
        sources: Sequence[Any] | None = None,
        facts: Any = None,
    ) -> str:
        """The finding, of a table made under some parameters, the others at their defaults; `sources` and `facts` are
        what it was made of, if at hand.
        """
        given = sources or [None] * len(INPUTS[self.inputs])
        usual = {name: item.default for name, item in signature(self.table).parameters.items()}
        known = {**usual, **dict(zip(INPUTS[self.inputs], given, strict=True)), "facts": facts, **parameters}
        wanted = list(signature(self.summary).parameters)[1:]
        return self.summary(frame, **{name: known[name] for name in wanted})

    def require(self, trace: Trace) -> None:
        """Refuse a trace that lacks what this analysis needs.

        Raises:
            CaptureError: it does.
            InputError: it is no trace.
        """
        if not isinstance(getattr(trace, "records", None), Mapping):
            raise InputError(
                f"{self.name} takes what hw.capture gives.",
                evidence=f"got {type(trace).__name__}",
                remedy=f"Call it as {self._call()}, with a trace.",
            )
        for need in self.needs:
            kept, what = NEEDS[need]
            if not any(kept in record for record in trace.records.values()):
                raise CaptureError(
                    f"This trace holds no {what}.",
                    evidence=f"{self.name} needs them; {len(trace.records)} sites",
                    remedy=f"Capture again with {self.capture_call()}, and run the model inside the with block.",
                )

    def capture_call(self) -> str:
        """The call of `hw.capture` whose trace this analysis can be run on."""
        options = [f"{need}=True" for need in self.needs if need != "stats"]
        return (
            f"hw.capture({', '.join(['subject', *options])})"
            if options
            else "hw.capture(subject, stats=True)"
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """The types of its parameters by name, behind its inputs; Any where there is none to read."""
        known = getattr(unwrap(self.table), "__globals__", {})
        hints = {name: item.annotation for name, item in signature(self.table).parameters.items()}
        own = list(hints)[len(INPUTS[self.inputs]) :]
        return {name: _type_of(hints[name], known) for name in own}

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> BoundArguments:
        own = signature(self.table)
        try:
            bound = own.bind(*args, **kwargs)
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in own.parameters), None)
            raise InputError(
                f"{self.name} cannot be called so."
                if unknown is None
                else f"{self.name} has no parameter {unknown!r}.",
                evidence=str(error) if unknown is None else close_names(unknown, own.parameters),
                remedy=f"Call it as {self._call()}.",
            ) from error
        kinds = self.parameters
        given = {name: value for name, value in bound.arguments.items() if name in kinds}
        bound.arguments.update(read_options(self.name, kinds, given, source="python"))
        bound.apply_defaults()
        return bound

    def _call(self) -> str:
        return f"{self.name}({', '.join(signature(self.table).parameters)})"

    def __repr__(self) -> str:
        return f"Analysis({self.name}: {self.kind}, needs {', '.join(self.needs) or 'nothing'})"


@in_words
def analysis(
    *,
    kind: str,
    keys: Sequence[str],
    value: str,
    unit: str,
    description: str,
    summary: Callable[..., str],
    needs: Sequence[str] = ("stats",),
    inputs: str = "trace",
    sizes: Mapping[str, str] = MappingProxyType({}),
    writes: bool = False,
    sees: bool = False,
    agree: str = "tokens",
    axes: Sequence[str] = (),
    running: Sequence[str] = (),
    title: str = "",
    merge: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
) -> Callable[[Callable[P, pd.DataFrame]], Analysis[P]]:
    """Make an analysis of a function that gives a table.

    Args:
        kind: what a row of the table is, and how it is drawn: `heads`, `layers`, `positions`, `matrix`, `edges`,
            `curve`, `classes`, `rows` or `difference`.
        keys: the columns that name a row.
        value: the column with the finding.
        unit: of the value; `share` and `percent` have a scale of their own.
        description: how to read the number; `{epsilon:g}` stands for the value of a parameter.
        summary: makes the sentence of the table; it may also name arguments of the function.
        needs: options of `hw.capture` that it cannot do without.
        inputs: `"trace"`, `"pair"` (before and after) or `"subject"` (with data).
        sizes: of those options that take a number (`near`, `top`), the parameter of the function that gives it.
        writes: it is about rows that write tokens, and takes no trace of an encoder alone.
        sees: it is about images, and takes no trace without one.
        agree: which tokens of a pair must be the same: `"tokens"` (all, at their positions), `"prompt"`, `"generated"`,
            `"last"` or `"nothing"`.
        axes: the two columns of a matrix, or the one of a curve.
        running: parameters that say how it is run and not what it finds, such as the size of a batch.
        title: how a page calls it.
        merge: makes one table of the rows of several, where they are means over examples; it needs their counts.

    Raises:
        InputError: one of these is missing or unknown, or says what headwise does not know.

    Example:
        >>> from headwise.analyses import HEAD
        >>> @analysis(
        ...     kind="heads", keys=HEAD, value="maximum", unit="share",
        ...     description="Mean over rows of the largest weight; 1 is all weight on one key.",
        ...     summary=lambda frame: f"Rows put {frame['maximum'].mean():.0%} of their weight on one key.",
        ... )
        ... def peak(trace):
        ...     return trace.to_frame("head")[[*HEAD, "maximum"]]
        >>> peak
        Analysis(peak: heads, needs stats)
    """

    def record(table: Callable[P, pd.DataFrame]) -> Analysis[P]:
        return Analysis(
            table,
            kind=kind,
            keys=tuple(keys),
            value=value,
            unit=unit,
            description=description,
            summary=summary,
            needs=tuple(needs),
            inputs=inputs,
            sizes=sizes,
            writes=writes,
            sees=sees,
            agree=agree,
            axes=tuple(axes),
            running=tuple(running),
            title=title,
            merge=merge,
        )

    return record


def _type_of(annotation: Any, known: dict[str, Any]) -> Any:
    if annotation is Parameter.empty:
        return Any
    try:
        return eval(annotation, known) if isinstance(annotation, str) else annotation
    except NameError:  # it was imported for type checkers alone
        return Any

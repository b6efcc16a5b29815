"""The edges that carry a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from headwise.analyses._circuits.given import Task, experiment_of, provenance
from headwise.analyses.record import analysis
from headwise.circuits.acdc import acdc
from headwise.circuits.attribution import edge_attribution
from headwise.circuits.circuit import SIGN, circuit_frame
from headwise.circuits.experiment import MetricName
from headwise.circuits.faithfulness import faithfulness
from headwise.circuits.patching import edge_patching
from headwise.circuits.selection import Rule, connected, select

if TYPE_CHECKING:
    import pandas as pd

    from headwise.subject import Subject

Method = Literal["eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "exact", "acdc"]


def _summary(frame: pd.DataFrame, facts: Mapping[str, Any] | None) -> str:
    kept = frame[frame["kept"]]
    heads = sorted({name for name in kept["sender"] if "H" in name})
    strongest = kept.iloc[int(kept["score"].abs().argmax())] if len(kept) else None
    restored = f", which restore {facts['faithfulness']:.0%} of the metric" if facts else ""
    told = (
        ""
        if strongest is None
        else f"; the strongest is {strongest['sender']} → {strongest['receiver']} {strongest['input']}".rstrip()
        + f" ({strongest['score']:.3g})"
    )
    return f"{len(kept)} of {len(frame)} edges and {len(heads)} heads carry the task{restored}{told}."


@analysis(
    kind="edges",
    keys=("sender", "receiver", "input"),
    value="score",
    unit="change of the metric",
    description="What the metric loses (below 0) or wins when one edge carries what its sender writes on the corrupted "
    "prompt, by {method}; mean over pairs. A circuit is the edges that are kept.",
    summary=_summary,
    inputs="subject",
    title="Circuit",
)
def circuit(
    subject: Subject,
    data: Task,
    method: Method = "eap-ig",
    edges: int = 100,
    rule: Rule = "top",
    threshold: float = 0.01,
    steps: int = 5,
    metric: MetricName = "logit_difference",
    batch_size: int = 16,
    check: bool = True,
) -> pd.DataFrame:
    """The edges between inputs, heads, MLPs and logits that carry a task, and how much of it they restore.

    Args:
        subject: a decoder or an encoder-decoder, of text, pictures or speech.
        data: a `PairSet`, or rows with `clean`, `corrupted`, `correct` and `wrong`.
        method: how edges are scored: gradients (`"eap"`, `"eap-ig"`, `"eap-ig-activations"`, `"clean-corrupted"`, see
            `headwise.circuits.attribution.edge_attribution`), replacement of every edge (`"exact"`), or `"acdc"`.
        edges: how many of the strongest edges are taken; all where there are fewer. Not for `"acdc"`.
        rule: `"top"` of all edges, or `"greedy"` from the logits upwards.
        threshold: of `"acdc"`, in units of the metric.
        steps: points of the path of `"eap-ig"`.
        metric: `"logit_difference"` of the right and the wrong answer, or `"log_probability"` of the right one.
        batch_size: pairs that run side by side.
        check: refuse a model that does not do the task.

    Returns:
        One row per edge of the model: `sender`, `receiver`, its `input` (q, k, v or nothing), the `score`, and whether
        it is `kept`. Edges that lead nowhere are dropped from the circuit.

    Raises:
        InputError: there are no pairs, prompts of a pair differ in length, the model does not do the task.
        UnsupportedModel: its layers do not add to a residual stream.
    """
    experiment = experiment_of(subject, data, "circuit", metric=metric, batch_size=batch_size, check=check)
    graph = experiment.graph
    if method == "acdc":
        kept, scores = acdc(experiment, threshold)
        kept = connected(graph, kept)
    else:
        scores = (
            edge_patching(experiment) if method == "exact" else edge_attribution(experiment, method, steps)
        )
        kept = select(graph, scores, edges=min(edges, int(graph.edges.sum())), rule=rule)
    source = provenance(
        experiment, method=method, sign=SIGN, granularity="group", faithfulness=faithfulness(experiment, kept)
    )
    frame = circuit_frame(graph, scores, kept)
    frame.attrs["facts"], frame.attrs["provenance"] = source["circuit"], source
    return frame

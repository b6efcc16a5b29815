"""Read-only views of a trace: one field of every site, or its gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from torch import Tensor

from headwise.errors import CaptureError, InputError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import Record


class UnknownSiteError(CaptureError, KeyError):
    """A trace was asked for a site that it does not hold."""


class FieldView(Mapping[Site, Tensor]):
    """One field of every site that has it, read-only, in the order the sites were called."""

    def __init__(
        self, records: Mapping[Site, Record], field: str, *, what: str = "", option: str = ""
    ) -> None:
        """`what` the field holds, and the `option` of `capture` that keeps it, are for the error."""
        self._field, self._what, self._option = field, what or field, option
        self._all = records
        self._records = {site: record for site, record in records.items() if field in record}

    def record(self, site: Site) -> Record:
        """The record of a site that has the field."""
        if site in self._records:
            return self._records[site]
        if site not in self._all:
            raise unknown_site(site, self._records or self._all)
        option = f" with {self._option} for this site" if self._option else ""
        raise UnknownSiteError(
            f"This trace holds no {self._what} of {site}.",
            evidence=f"it has them of {', '.join(map(str, list(self._records)[:6])) or 'no site'}",
            remedy=f"Capture again{option}.",
        )

    def __getitem__(self, site: Site) -> Tensor:
        return self.record(site)[self._field]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"{self._field} of {len(self)} sites"


class GradientView(FieldView):
    """The gradient of every captured pattern."""

    def __getitem__(self, site: Site) -> Tensor:
        return gradient_of(
            super().__getitem__(site), what=f"The pattern of {site}", option="maps=True, gradients=True"
        )


def gradient_of(tensor: Tensor, *, what: str, option: str) -> Tensor:
    """The gradient that `backward()` left on a captured tensor; `what` and `option` are for the error."""
    gradient = tensor.grad if tensor.is_leaf or tensor.retains_grad else None
    if gradient is None:
        raise CaptureError(
            f"{what} has no gradient.",
            remedy=f"Run the model once inside capture(..., {option}), then call loss.backward().",
        )
    return gradient


def attribution_of(records: Mapping[Site, Record], site: Site, per: str) -> Tensor:
    """The sums behind `Trace.attribution`."""
    if per not in ("key", "query"):
        raise InputError(
            f"Attribution is per key or per query, not {per!r}.", remedy='Use per="key" or per="query".'
        )
    field = "v_heads" if per == "key" else "z_graph"
    if site not in records:
        raise unknown_site(site, records)
    if field not in records[site]:
        raise CaptureError(
            f"This trace kept no gradients for {site}.",
            remedy="Run the model once inside capture(..., gradients=True), then call loss.backward().",
        )
    value = records[site][field]
    gradient = gradient_of(value, what=f"The graph of {site}", option="gradients=True")
    sums = (value.detach().float() * gradient.float()).sum(-1)
    return sums if per == "key" else sums.transpose(1, 2)


def unknown_site(site: object, known: Mapping[Site, Record], *, more: str = "") -> UnknownSiteError:
    """The error for a site that is not held, with the names of close ones; `more` stands behind the remedy."""
    names = [str(other) for other in known]
    close = get_close_matches(str(site), names, n=3, cutoff=0.5) or names[:3]
    return UnknownSiteError(
        f"This trace holds no {site}.",
        evidence=f"close: {', '.join(close)}",
        remedy=f"See trace.sites.{more}",
    )

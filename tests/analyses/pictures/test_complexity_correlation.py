"""Entropy beside visual complexity: hand-made heads, a twin, chance, a trained model, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy import stats

import headwise as hw
from headwise.errors import InputError
from headwise.functional.correlation import correlations
from headwise.functional.entropy import LEAST
from headwise.zoo.data.scenes import draw, scenes

QUESTION = "is there a circle in the image ?"
TURNED = "headwise.analyses._pictures.complexity_correlation._entropies"


def seeds(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def examples(count: int) -> list[dict[str, object]]:
    return [{"image": draw(scene), "text": QUESTION} for scene in scenes(count, seed=1)]


class TestCorrelations:
    def test_heads_that_follow_the_score_and_heads_that_do_not(self) -> None:
        score = torch.rand(40, generator=seeds(), dtype=torch.double)
        noise = torch.rand(2, 40, generator=seeds(1), dtype=torch.double)
        flat = torch.full((40,), 0.7, dtype=torch.double)
        found = correlations(torch.stack([0.2 + 0.5 * score, 1 - score**3, *noise, flat]), score, trials=200)
        assert found.pearson[0] == pytest.approx(1)
        assert found.spearman[:2].tolist() == pytest.approx([1, -1])
        assert (found.low[0], found.high[0]) == (pytest.approx(1), pytest.approx(1))
        assert found.p[:2].tolist() == found.p_family[:2].tolist() == pytest.approx([1 / 201] * 2)
        clear, chance = found.above_chance()
        assert clear.tolist() == [True, True, False, False, False]
        assert float(chance.double().mean()) == pytest.approx(
            4 * 0.05, abs=1e-9
        )  # 10 of 200, in each of four heads
        for numbers in (found.pearson, found.spearman, found.low, found.p, found.p_family):
            assert numbers[4].isnan()

    def test_the_twin(self) -> None:
        values = torch.rand(3, 15, generator=seeds(), dtype=torch.double)
        values[2, [1, 8]] = torch.nan
        score = torch.rand(15, generator=seeds(1), dtype=torch.double)
        found = correlations(values, score, trials=50)
        for row, r, rho in zip(values.numpy(), found.pearson, found.spearman, strict=True):
            known = ~np.isnan(row)
            assert float(r) == pytest.approx(stats.pearsonr(row[known], score.numpy()[known])[0], abs=1e-6)
            assert float(rho) == pytest.approx(stats.spearmanr(row[known], score.numpy()[known])[0], abs=1e-6)
        assert (found.low <= found.pearson).all()
        assert (found.pearson <= found.high).all()
        assert (found.p_family >= found.p).all()

    def test_p_is_that_of_the_permutation_test(self) -> None:
        values = torch.rand(1, 12, generator=seeds(5), dtype=torch.double)
        score = values[0] + torch.rand(12, generator=seeds(2), dtype=torch.double)
        found = correlations(values, score, trials=2000)
        assert float(found.p[0]) == pytest.approx(stats.pearsonr(values[0], score)[1], abs=0.02)

    def test_too_few_examples_give_nothing(self) -> None:
        values = torch.tensor([[1.0, 2.0, 3.0, torch.nan]])
        assert correlations(values, torch.arange(4.0), least=4).pearson.isnan().all()


@pytest.fixture(scope="module")
def vlm():
    return hw.load("zoo:vlm")


class TestOfAModel:
    def test_hand_made_entropies_that_follow_the_edges(self, vlm, monkeypatch) -> None:
        """The head with the entropy of the edge share is found among heads that know nothing of it."""
        import pandas as pd

        data = examples(30)
        made = torch.rand(8, 30, generator=seeds(), dtype=torch.double).numpy()
        made[5] = [0.3 + 2 * hw.analyses.edge_share(one["image"]) for one in data]
        heads = [("text", "self", 0, 0, head) for head in range(8)]
        table = pd.DataFrame(made, index=pd.MultiIndex.from_tuples(heads, names=hw.analyses.HEAD[1:]))
        monkeypatch.setattr(TURNED, lambda *_: (table, {}))
        found = hw.analyses.complexity_correlation(vlm, data, trials=200)
        assert found.frame["correlation"].idxmax() == 5
        assert [found.frame[name][5] for name in ("correlation", "spearman")] == pytest.approx([1, 1])
        assert "most L0H5: 1.00 [1.00, 1.00], rank correlation 1.00" in found.summary
        assert found.frame["p_family"].idxmin() == 5

    @pytest.mark.slow
    def test_its_entropies_are_those_of_the_last_row(self, vlm) -> None:
        data = examples(8)
        found = hw.analyses.complexity_correlation(vlm, data, measure="hue", trials=20)
        with hw.capture(vlm, maps=True) as trace:
            vlm.model(**vlm.prepare(**data[0]))
        site = next(site for site in trace.maps if site.tower == "text" and site.layer == 2)
        image = trace.layout.axes["text"].images[0]
        means = []
        for one in data:
            with hw.capture(vlm, maps=True) as trace:
                vlm.model(**vlm.prepare(**one))
            row = trace.maps[site][0, :, -1, image.start : image.start + image.length].double()
            looks = row.sum(-1, keepdim=True)
            row = row / looks.where(looks > LEAST, torch.nan)
            means.append(torch.special.entr(row).sum(-1) / np.log(image.length))
        mine = found.frame[found.frame["layer"] == 2].set_index("head")["entropy"]
        np.testing.assert_allclose(mine, torch.stack(means).nanmean(0)[list(mine.index)], atol=1e-5)

    @pytest.mark.parametrize(
        ("change", "options", "words"),
        [
            (lambda data: data[:7], {}, "takes 8 of them or more.*got 7"),
            (lambda data: [*data, {"text": QUESTION}], {}, "one picture.*example 8 has none"),
            (lambda data: [{**data[0], "image": [data[0]["image"]] * 2}, *data], {}, "example 0 has 2"),
            (lambda data: data[:1] * 9, {}, "equally complex.*share of edge pixels.*in each of 9"),
            (lambda data: data, {"trials": 0}, "one shuffle or more"),
            (lambda data: data, {"measure": "size"}, "'measure' of complexity_correlation cannot be 'size'"),
            (lambda data: data, {"rows": "first"}, "'rows' of complexity_correlation cannot be 'first'"),
            (lambda data: [], {}, "list of examples"),
        ],
    )
    def test_what_cannot_be_measured_is_said(self, vlm, change, options, words) -> None:
        with pytest.raises(InputError, match=words):
            hw.analyses.complexity_correlation(vlm, change(examples(8)), **options)

    def test_heads_that_do_not_change(self, vlm, monkeypatch) -> None:
        import pandas as pd

        index = pd.MultiIndex.from_tuples([("text", "self", 0, 0, 0)], names=hw.analyses.HEAD[1:])
        monkeypatch.setattr(TURNED, lambda *_: (pd.DataFrame([[0.5] * 8], index=index), {}))
        with pytest.raises(InputError, match="No head's entropy over the image changes"):
            hw.analyses.complexity_correlation(vlm, examples(8))

    def test_the_other_measure_needs_no_scikit_image(self, vlm, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "skimage.feature", None)
        with pytest.raises(InputError, match=r"headwise\[saliency\]"):
            hw.analyses.complexity_correlation(vlm, examples(8))
        assert len(hw.analyses.complexity_correlation(vlm, examples(8), measure="hue", trials=20).frame) > 24

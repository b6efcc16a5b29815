"""The names that translation models have for languages, and what their decoder begins with to write one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from headwise.errors import InputError
from headwise.subject.speech_prompt import language_of_each
from headwise.subject.tokens import start_id

if TYPE_CHECKING:
    from headwise.subject.loaded import LoadedModel

Model = TypeVar("Model", bound="LoadedModel")

_TABLE: str = """
af afr_Latn am amh_Ethi ar arb_Arab az azj_Latn be bel_Cyrl bg bul_Cyrl bn ben_Beng bs bos_Latn ca cat_Latn
cs ces_Latn cy cym_Latn da dan_Latn de deu_Latn el ell_Grek en eng_Latn es spa_Latn et est_Latn eu eus_Latn
fa pes_Arab fi fin_Latn fr fra_Latn ga gle_Latn gl glg_Latn gu guj_Gujr ha hau_Latn he heb_Hebr hi hin_Deva
hr hrv_Latn hu hun_Latn hy hye_Armn id ind_Latn ig ibo_Latn is isl_Latn it ita_Latn ja jpn_Jpan ka kat_Geor
ki kik_Latn kk kaz_Cyrl km khm_Khmr kn kan_Knda ko kor_Hang lg lug_Latn ln lin_Latn lo lao_Laoo lt lit_Latn
luo luo_Latn lv lvs_Latn mg plt_Latn mk mkd_Cyrl ml mal_Mlym mr mar_Deva ms zsm_Latn my mya_Mymr ne npi_Deva
nl nld_Latn no nob_Latn ny nya_Latn pa pan_Guru pl pol_Latn pt por_Latn ro ron_Latn ru rus_Cyrl rw kin_Latn
si sin_Sinh sk slk_Latn sl slv_Latn sn sna_Latn so som_Latn sq als_Latn sr srp_Cyrl sv swe_Latn sw swh_Latn
ta tam_Taml te tel_Telu th tha_Thai ti tir_Ethi tl tgl_Latn tr tur_Latn uk ukr_Cyrl ur urd_Arab uz uzn_Latn
vi vie_Latn wo wol_Latn xh xho_Latn yo yor_Latn zh zho_Hans zu zul_Latn
"""
TAGS: dict[str, str] = dict(zip(_TABLE.split()[::2], _TABLE.split()[1::2], strict=True))
"""Short code -> name in NLLB."""
SHORT: dict[str, str] = {tag: code for code, tag in TAGS.items()}
SHOWN = 20
"""Languages that a message lists."""


def set_languages(tokenizer: Any, source: str, target: str) -> int | None:
    """Tell a tokenizer what it reads and what is to be written; nothing where it knows of one direction only.

    Args:
        tokenizer: of NLLB, M2M100, mBART or another model with language tokens; it is changed.
        source: the language as the model calls it (`swh_Latn`), or a short code (`sw`).
        target: the same for the language to translate into.

    Returns:
        Id of the token that the decoder has to begin with; None where there is none.

    Raises:
        InputError: the model has no such language, or none was named.
    """
    if not hasattr(tokenizer, "src_lang"):
        return None
    if not source or not target:
        raise InputError(
            "This model has to be told the languages.",
            evidence=type(tokenizer).__name__,
            remedy='Give both, such as source="eng_Latn", target="swh_Latn".',
        )
    tokenizer.src_lang = _known(tokenizer, source)[0]
    tokenizer.tgt_lang, token = _known(tokenizer, target)
    return token


def in_languages(subject: Model, example: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """The subject that reads the language of an example, and the keywords of `Subject.prepare`.

    Args:
        subject: the model with its processor, which stays as it is.
        example: those keywords; and `languages`, from and to, for a translation model that is told.
    """
    given = dict(example)
    languages = given.pop("languages", None)
    if languages is not None:
        subject = replace(subject, processor=copy.deepcopy(subject.processor))
        if set_languages(subject.tokenizer, *languages) is not None:
            given.setdefault("language", languages[1])
    return subject, given


def writes_languages(subject: LoadedModel) -> bool:
    """True for a model that is told by a token which language to write: NLLB, M2M100, mBART and their kind."""
    return bool(subject.config.is_encoder_decoder) and hasattr(subject.tokenizer, "src_lang")


def language_prompts(subject: LoadedModel, language: str | Sequence[str], size: int) -> list[list[int]]:
    """What the decoder begins with to write a language: its start token and the language's.

    One token where the language itself is the start token, as of the first mBART.

    Args:
        subject: a model that `writes_languages`; its tokenizer stays as it is.
        language: as the model calls it (`swh_Latn`), or a short code (`sw`); one, or one for each example.
        size: how many examples there are.

    Raises:
        InputError: the model has no such language, or languages and examples differ in number.
    """
    named = language_of_each(language, size, "text")
    start = start_id(subject)
    front = [] if _is_language(subject.tokenizer, start) else [start]
    return [[*front, _known(subject.tokenizer, name)[1]] for name in named]


def untold(subject: LoadedModel) -> str:
    """What to say where nobody says which language such a model is to write; "" where its generation config does."""
    settings = getattr(subject.model, "generation_config", None)
    if not writes_languages(subject) or _is_language(subject.tokenizer, start_id(subject)):
        return ""
    if getattr(settings, "forced_bos_token_id", None) is not None:
        return ""
    return (
        f"The model was not told which language to write, of {_some(_names(subject.tokenizer))}. "
        "Name it with language= or --language."
    )


def _known(tokenizer: Any, name: str) -> tuple[str, int]:
    """What the tokenizer calls a language, and its token."""
    for alias in _aliases(name):
        token = getattr(tokenizer, "lang_code_to_token", {}).get(alias, alias)  # M2M100 writes __sw__
        index = tokenizer.convert_tokens_to_ids(token)
        if (
            isinstance(index, int)
            and index != tokenizer.unk_token_id
            and token in tokenizer.all_special_tokens
        ):
            return alias, index
    known = _names(tokenizer)
    close = [match for alias in _aliases(name) for match in get_close_matches(alias, known)]
    shown = f"close: {', '.join(dict.fromkeys(close))}; " if close else ""
    raise InputError(
        f"The model knows no language {name!r}.",
        evidence=f"{shown}it knows {_some(known)}" if known else "",
        remedy="Name it as the model does, such as swh_Latn, or by its short code.",
    )


def _names(tokenizer: Any) -> list[str]:
    """What the tokenizer calls its languages."""
    listed = getattr(tokenizer, "lang_code_to_token", None)
    if listed:
        return list(listed)
    roles = {token for token in tokenizer.special_tokens_map.values() if isinstance(token, str)}
    return [token for token in tokenizer.all_special_tokens if token not in roles]


def _is_language(tokenizer: Any, token: int) -> bool:
    return tokenizer.convert_ids_to_tokens(token).strip("_") in _names(tokenizer)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _aliases(name: str) -> Iterator[str]:
    yield name
    if name.lower() in TAGS:
        yield name.lower()
        yield TAGS[name.lower()]
    if name in SHORT:
        yield SHORT[name]

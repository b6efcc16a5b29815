"""Language tags: NLLB `eng_Latn`, M2M-100 and SeamlessM4T `__en__`, mBART `en_XX`, Marian `>>fra<<`."""

from headwise.families import Family

FAMILY = Family(
    tags=(("language", r"[a-z]{3}_[A-Z][a-z]{3}|__[a-z]{2,3}(?:_\w+)?__|[a-z]{2}_[A-Z]{2}|>>\w+<<"),)
)

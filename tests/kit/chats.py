"""Chat templates: as folders have them, and bombs."""

from __future__ import annotations

MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "Sure?"},
]
_TURN = (
    "{{ '<|' ~ m.role ~ '|>' + (m['content'] if m.content is string else m.content[1:]|map(attribute='text')|join) "
    "}}"
)
TEMPLATES = {
    "loop": "{% for m in messages %}"
    + _TURN
    + "\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "namespace": "{%- set ns = namespace(n=0, all=[]) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "{%- set ns.n = ns.n + 1 -%}{%- set ns.all = ns.all + [m.content] -%}{%- endif -%}{%- endfor -%}{{ ns.n }}"
    "{{ ns.all }}",
    "macro": "{% macro say(m, deep=2) %}{% if deep %}({{ say(m, deep - 1) }}){% else %}{{ m.role|upper }}{% endif %}"
    "{% endmacro %}{% for m in messages %}{{ say(m) }}{{ loop.cycle(',', ';') }}{% endfor %}",
    "tools": "{{ messages|tojson }}{{ messages[0]|tojson(indent=2) }}{{ {'a': 1, 'b': [2]}|dictsort }}"
    "{{ tools is none }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "controls": "{% for m in messages %}{% if loop.index0 % 2 == 1 %}{% continue %}{% endif %}"
    "{% if loop.last %}{% break %}"
    "{% endif %}{{ m.role[::-1] }}{% endfor %}",
    "call": "{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}{{ messages|length }}{% endcall %}",
    "filters": "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}"
    "{{ messages[1].content.split(' ')[-1] }}"
    "{{ ('%s-%d' % ('a', 3)) }}{{ '{:>3}'.format('x') }}{{ [3, 1]|sort }}{{ 'a\nb'|indent(2) }}{{ 7 // 2 * 3 ** 2 }}"
    "{{ missing|default('none') }}{% for x in missing %}{% endfor %}{{ missing }}{{ 'a' ~ missing ~ 1 }}"
    "{{ messages[0].items()|list|length }}{% filter upper %}x{% endfilter %}{% set x %}y{% endset %}{{ x * 2 }}",
}
_GROWN = "{{% set ns = namespace(x={0}, y={0}) %}}{{% for i in range(60) %}}{1}{{% endfor %}}{{{{ {2} }}}}"
BOMBS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a list in a loop": "{% for i in range(99999) %}{% set x = range(99999)|list %}{% endfor %}",
    "times": "{{ 'a' * 3000000000 }}",
    "times a list": "{{ [1] * 1000000000 }}",
    "a power": "{{ 2 ** 2000000000 }}",
    "squares": _GROWN.format("9", "{% set ns.x = ns.x * ns.x %}", "ns.x"),
    "a shift": "{{ 5|round(-1000000000) }}",
    "bytes": "{{ (5).to_bytes(1000000000, 'big')|length }}",
    "center": "{{ 'a'|center(10 ** 9) }}",
    "center of a text": "{{ 'a'.center(1000000000) }}",
    "zeros": "{{ 'a'.zfill(1000000000) }}",
    "tabs": "{{ ('\\t' * 100000).expandtabs(100000)|length }}",
    "letters": "{{ ('a' * 100000).translate({97: 'b' * 100000})|length }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent of a number": "{{ '%*d' % (1000000000, 1) }}",
    "format": "{{ '{:>1000000000}'.format('a') }}",
    "format in format": "{{ '{:{}}'.format('a', 1000000000) }}",
    "format of names": "{{ '{a:{w}}'.format_map({'a': 1, 'w': 1000000000}) }}",
    "format by a filter": "{{ '%1000000000d'|format(1) }}",
    "join": "{{ (['a' * 10000] * 1000)|join('b' * 100000)|length }}",
    "replace": "{{ ('a' * 100000).replace('a', 'b' * 100000)|length }}",
    "indent": "{{ ('\\n' * 100000)|indent(100000)|length }}",
    "batch": "{{ [1]|batch(1000000000, 1)|list|length }}",
    "slice": "{{ [1]|slice(1000000000)|list|length }}",
    "filter block": "{% filter center(1000000000) %}x{% endfilter %}",
    "texts joined": _GROWN.format("'aa'", "{% set ns.x = ns.x ~ ns.x %}", "ns.x|length"),
    "texts added": _GROWN.format("'aa'", "{% set ns.x = ns.x + ns.x %}", "ns.x|length"),
    "texts written": _GROWN.format(
        "'aa'", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}", "ns.x|length"
    ),
    "lists in lists": _GROWN.format("[1]", "{% set ns.x = [ns.x, ns.x] %}", "ns.x"),
    "lists as JSON": _GROWN.format("[1]", "{% set ns.x = [ns.x, ns.x] %}", "ns.x|tojson"),
    "lists compared": _GROWN.format(
        "[1]", "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}", "ns.x == ns.y"
    ),
    "lists as keys": _GROWN.format("(1,)", "{% set ns.x = (ns.x, ns.x) %}", "{ns.x: 1}"),
    "lists looked up": _GROWN.format("(1,)", "{% set ns.x = (ns.x, ns.x) %}", "{}[ns.x]"),
    "objects": _GROWN.format("[1]", "{% set ns.x = {'a': ns.x, 'b': ns.x} %}", "ns.x.items()"),
    "macros": "{% macro f(n) %}{% if n %}{% set x = f(n - 1) %}{% set x = f(n - 1) %}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "cuts": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}",
    "comparisons": "{% set x = 'a' * 900000 %}{% set y = 'a' * 900000 %}{% for i in range(99999) %}"
    "{% if x == y %}{% endif %}{% endfor %}",
    "searches": "{% set x = 'a' * 1000000 %}{% for i in range(99999) %}{% if 'b' in x %}{% endif %}{% endfor %}",
    "splits": "{% set ns = namespace(l=[]) %}{% set x = 'a ' * 400000 %}{% for i in range(99) %}"
    "{% set ns.l = ns.l + [x.split(' ')] %}{% endfor %}",
}
"""What costs too much."""
REFUSED = {
    "an error": ("{{ raise_exception('roles') }}", "roles"),
    "no end": ("{% for", "unexpected"),
    "a class": ("{{ messages.__class__.__mro__ }}", "unsafe"),
    "a name with _": ("{% set ns = namespace(_x=1) %}{% set ns._x = 2 %}", "begins with _"),
    "nothing of a name": ("{{ messages[0].nope.nope }}", "no attribute"),
    "endless macro": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "include": ("{% include 'x' %}", "Include"),
    "import": ("{% import 'x' as y %}", "Import"),
    "recursive loop": ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursive"),
    "digits": ("{{ " + "9" * 10000 + " }}", "digits"),
    "brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
    "length": ("x" * 300_000, "200,000"),
    "division": ("{{ 1 // 0 }}", "zero"),
}
"""What cannot be rendered, and what is said of it."""

"""Golden results of small templates, by jinja2 as transformers sets it up, for tests/text/jinja_test.cpp.

    python tests/golden/text_jinja.py > tests/data/text/jinja_cases.json
"""

import json

import jinja2
import transformers
from transformers.utils.chat_template_utils import _compile_jinja_template

VARIABLES = {
    "name": "Wörld", "empty": "", "number": 7, "pi": 3.14159, "none": None, "yes": True,
    "list": [3, 1, 2], "words": ["b", "A", "c", "B"], "mixed": [1, "a", None, True, 2.0, [1], {"k": "v'"}],
    "dict": {"b": 1, "a": {"x": [1, 2]}, "items": "shadow", "C": 3},
    "messages": [{"role": "system", "content": " s "}, {"role": "user", "content": "hi\nthere"},
                 {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}],
    "text": "  The quick brown fox\njumps over\n\nthe lazy dog.  ",
    "floats": [1.0, 0.1, 1e16, 1e-5, 123456789.125, -0.0, 1e22, 5e-324],
    "unicode": "ß İstanbul ΣΑΣ ǆ ﬁ 𝔘 \u00a0x\u2003", "quotes": "it's \"q\" \\ \n\t\x07 é \u200b",
}

CASES = r"""
plain text
{{ name }} {{ number }} {{ pi }} {{ none }} {{ yes }} {{ missing }}
{{ 1 }} {{ 1.0 }} {{ 1e3 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 'a' 'b' }} {{ "x\ty\u00e9\x41\101\q" }}
{{ [1, 'a', none, true] }} {{ (1,) }} {{ (1, 2) }} {{ {'a': 1, 2: 'b'} }} {{ [] }} {{ {} }} {{ () }}
{{ mixed }} {{ dict }} {{ floats }} {{ quotes }} {{ [quotes] }}
{{ 7 + 2 }} {{ 7 - 2 }} {{ 7 * 2 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ 7 % 3 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }}
{{ 2.5 + 1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 / 3 }} {{ 4 / 2 }} {{ true + 1 }} {{ 'a' * 3 }} {{ [1] * 2 }} {{ 3 * 'ab' }}
{{ 'a' + 'b' }} {{ [1] + [2] }} {{ 'a' ~ 1 ~ none ~ missing ~ true }} {{ 1 ~ 2 }}
{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 'a' ~ 1 + 2 }} {{ not true or true }}
{{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ none == none }}
{{ missing == missing }} {{ missing == none }} {{ [1, [2]] == [1, [2]] }} {{ {'a': 1} == {'a': 1.0} }} {{ (1,) == [1] }}
{{ 'b' in 'abc' }} {{ 'x' not in 'abc' }} {{ 1 in list }} {{ 'a' in dict }} {{ 'x' in missing }} {{ 1 in (1, 2) }}
{{ 1 and 2 }} {{ 0 and 2 }} {{ 0 or 'x' }} {{ '' or none }} {{ not '' }} {{ not [] }} {{ missing or 'd' }}
{{ 'yes' if yes else 'no' }} {{ 'yes' if not yes }} {{ 1 if 0 else 2 if 0 else 3 }}
{{ name[0] }} {{ name[-1] }} {{ name[1] }} {{ name[9] }} {{ list[0] }} {{ list[-1] }} {{ list[5] }} {{ dict['a'] }} {{ dict['zz'] }} {{ dict.a.x[1] }} {{ list.0 }}
{{ name[1:3] }} {{ name[:-1] }} {{ name[::-1] }} {{ name[::2] }} {{ name[-3:] }} {{ name[4:1:-1] }} {{ name[10:] }} {{ name[-99:2] }} {{ name[2:1] }}
{{ list[1:] }} {{ list[::-1] }} {{ list[:2] }} {{ list[-2:] }} {{ list[::-2] }} {{ list[5:0:-1] }} {{ (1,2,3)[1:] }} {{ list[:-9:-1] }} {{ list[-9::-1] }}
{{ dict.b }} {{ dict['items'] }} {{ dict.get('b') }} {{ dict.get('q') }} {{ dict.get('q', 5) }} {{ dict.missing }} {{ dict.keys() | list }} {{ dict.values() | list }}
{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in dict %}{{ k }},{% endfor %}{% for c in 'añ' %}[{{ c }}]{% endfor %}
{% for x in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }} {% endfor %}
{% for x in list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}
{% for x in list %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }} {% endfor %}
{% for x in [] %}x{% else %}none{% endfor %}{% for x in list if x > 5 %}x{% else %}filtered{% endfor %}
{% for x in list if x > 1 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% endfor %}
{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in missing %}x{% endfor %}|{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}|{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}
{{ range(3) | list }} {{ range(1, 4) | list }} {{ range(5, 0, -2) | list }} {{ range(0) | list }}
{% set x = 1 %}{{ x }}{% for i in range(3) %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(n=0, s='') %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns.q }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}
{% set block %}in {{ name }}{% endset %}[{{ block }}]{% set up | upper %}shout{% endset %}{{ up }}
{% if yes %}{% set inner = 5 %}{% endif %}{{ inner }}{% if 0 %}a{% elif 0 %}b{% elif 1 %}c{% else %}d{% endif %}
{% macro m(a, b='B', c=a) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=5, a=6) }}{{ m() }}{{ m('x') | length }}
{% macro outer(x) %}{{ inner(x) }}{% endmacro %}{% macro inner(y) %}({{ y }}){% endmacro %}{{ outer(3) }}
{% set z = 1 %}{% macro late() %}{{ z }}{% endmacro %}{% set z = 2 %}{{ late() }}
{% macro rec(n) %}{{ n }}{% if n > 0 %}{{ rec(n - 1) }}{% endif %}{% endmacro %}{{ rec(4) }}
{% macro wrap() %}[{{ caller() }}]{% endmacro %}{% call wrap() %}body {{ name }}{% endcall %}{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(v) each(list) %}<{{ v }}>{% endcall %}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}{% filter upper %}shout {{ name }}{% endfilter %}
{% generation %}{{ name }}{% set gen = 1 %}{% endgeneration %}{{ gen }}
{# comment #}a{#- c -#} b {# multi
line #}c
{% raw %}{{ not }} {% tags %}{% endraw %}|{%- raw -%} x {%- endraw -%} |
{{- 'a' -}}   b   {{- 'c' }}
  {% if yes %}  x  {% endif %}  y
  {%- if yes %} x {%- endif %} y
  {%+ if yes %} x {%+ endif %} y
{%- for x in list -%}  {{ x }}  {%- endfor -%}  end
{{ {'a': {'b': {}}} }} {{ {'a': '}}'} }} {{ '%}' }} {{ "{{" }}
{{ text | trim }}|{{ 'xxaxx' | trim('x') }}|{{ text | length }}|{{ list | length }}|{{ dict | length }}|{{ missing | length }}|{{ unicode | length }}
{{ name | upper }} {{ name | lower }} {{ 'hello world' | title }} {{ 'hELLO wORLD' | capitalize }} {{ unicode | upper }} {{ unicode | lower }} {{ "it's o'neil 3rd" | title }}
{{ list | join(', ') }} {{ list | join }} {{ mixed | join('|') }} {{ messages | join(',', attribute='role') }} {{ 'abc' | join('-') }}
{{ missing | default('d') }} {{ '' | default('d') }} {{ '' | default('d', true) }} {{ none | default('d') }} {{ none | d('e', boolean=true) }} {{ missing | default }}
{{ 'aXbXc' | replace('X', '-') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 'abc' | replace('', '-') }}
{{ list | first }} {{ list | last }} {{ 'xyz' | first }} {{ [] | first }} {{ dict | first }} {{ 'abc' | list }} {{ dict | list }}
{{ messages | map(attribute='role') | list }} {{ words | map('upper') | list }} {{ messages | map(attribute='x', default='-') | join }} {{ ['a ', ' b'] | map('trim') | join('+') }}
{{ messages | selectattr('role', 'equalto', 'user') | list }} {{ messages | selectattr('content') | map(attribute='role') | list }} {{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | list }}
{{ list | select('odd') | list }} {{ list | reject('gt', 1) | list }} {{ mixed | select | list | length }} {{ mixed | select('string') | list }} {{ messages | selectattr('tool_calls', 'defined') | list | length }}
{{ list | sort }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ list | sort(reverse=true) }} {{ messages | sort(attribute='role') | map(attribute='role') | list }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}
{{ list | reverse | list }} {{ 'abc' | reverse }} {{ list | sum }} {{ list | max }} {{ list | min }} {{ words | unique | list }} {{ words | max }} {{ [1, 2] | sum(start=10) }} {{ [{'a': 2}, {'a': 3}] | sum(attribute='a') }}
{{ '42' | int }} {{ ' 4.9 ' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 4.9 | int }} {{ '1e2' | float }} {{ 'x' | float }} {{ 'ff' | int(0, 16) }} {{ true | int }} {{ none | int }}
{{ 1.5 | round }} {{ 2.5 | round }} {{ 2.675 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ 2.9 | round(method='floor') }} {{ -5 | abs }} {{ -5.5 | abs }} {{ 5 | round }}
{{ 5 | string }} {{ none | string }} {{ [1] | string }} {{ name | safe }} {{ '<a href="x">&\'' | escape }} {{ 'a b  c' | wordcount }}
{{ text | indent }}|{{ text | indent(2, first=true) }}|{{ text | indent('> ', blank=true) }}|{{ '' | indent }}|{{ 'a\n' | indent(1) }}
{{ dict | items | list }} {{ missing | items | list }} {{ dict | attr('a') }} {{ '%s-%d' | format('a', 3) }} {{ '%s and %r' % ('a', 'b') }} {{ '%.2f%%' % 3.14159 }} {{ '%s' % name }}
{{ dict | tojson }} {{ mixed | tojson }} {{ quotes | tojson }} {{ quotes | tojson(ensure_ascii=true) }} {{ floats | tojson }} {{ unicode | tojson(ensure_ascii=true) }} {{ '<>&' | tojson }}
{{ dict | tojson(indent=2) }} {{ mixed | tojson(indent=4) }} {{ [] | tojson(indent=2) }} {{ {'a': {}} | tojson(indent=1) }} {{ dict | tojson(sort_keys=true) }} {{ list | tojson(separators=(',', ':')) }} {{ dict | tojson(indent='--') }}
{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ (1, 2) | tojson }}
{{ 'a,b,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'abc'.split('x') }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a</think>b</think>c'.split('</think>')[-1] }}
{{ text.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xya'.lstrip('yx') }}|{{ '\n\na\n'.lstrip('\n') }}|{{ 'a\n\n'.rstrip('\n') }}|{{ unicode.strip() }}
{{ 'abc'.startswith('a') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.replace('b', 'x') }} {{ 'aaa'.replace('a', 'b', 1) }} {{ 'abc'.upper() }} {{ 'ABC'.lower() }} {{ 'ab cd'.title() }} {{ 'ab CD'.capitalize() }}
{{ 'banana'.find('an') }} {{ 'banana'.rfind('an') }} {{ 'banana'.count('a') }} {{ 'banana'.find('x') }} {{ 'añb'.find('b') }} {{ 'a\nb\r\nc'.splitlines() }} {{ ', '.join(['a', 'b']) }} {{ 'banana'.index('n') }}
{{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ 'ab'.islower() }} {{ ''.isdigit() }} {{ '½'.isnumeric() }}
{{ 'prefix-x'.removeprefix('prefix-') }} {{ 'x.txt'.removesuffix('.txt') }} {{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} [{{ 'a'.ljust(3) }}] [{{ 'a'.rjust(3, '.') }}] [{{ 'ab'.center(5) }}] [{{ 'abc'.center(6) }}] {{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('x') }}
{{ 'a{}b{}'.format(1, 'x') }} {{ '{1}{0}{n}{{}}'.format(1, 2, n=none) }} {{ none | selectattr('a') | list }} {{ none | map('upper') | list }} {{ 0 | reject | list }}
{{ '{}'.format() }}
{{ '{x'.format(1) }}
{{ list.index(1) }} {{ list.count(1) }} {{ words.copy() }} {{ dict.copy() | length }}
{{ name is defined }} {{ missing is defined }} {{ missing is undefined }} {{ none is none }} {{ name is string }} {{ dict is mapping }} {{ list is iterable }} {{ list is sequence }} {{ 'a' is iterable }} {{ number is number }} {{ yes is boolean }} {{ yes is number }} {{ yes is integer }} {{ number is integer }} {{ pi is float }} {{ dict is sequence }} {{ missing is iterable }} {{ none is iterable }} {{ missing is sequence }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby(3) }} {{ 9 is divisibleby 2 }} {{ 1 is equalto 1 }} {{ 1 is eq(2) }} {{ 'a' is in 'abc' }} {{ 2 is in [1, 2] }} {{ 1 is not none }} {{ 1 is lt 2 }} {{ 'abc' is lower }} {{ 'ABC' is upper }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ none is sameas none }} {{ m is callable }} {{ 'upper' is filter }} {{ 'zzz' is filter }}
{{ not missing is defined }} {{ name is defined and name }} {{ 'x' if name is string else 'y' }} {{ 1 is defined is true }}
{{ messages[0].content.strip() }} {{ messages[-1]['tool_calls'][0].name }} {{ messages[1:] | length }} {{ (messages | last).role }} {{ messages[2].content is none }} {{ messages[0]['missing'] is defined }}
{{ dict(a=1, b='x') }} {{ dict({'a': 1}, b=2).b if false else 'own' }} {{ namespace({'a': 1}).a }} {{ namespace(a=2)['a'] }}
{{ none.x }} {{ none['x'] }} {{ number.x }} {{ name.nope }} {{ list.nope }} {{ list['x'] }} {{ name['x'] }} {{ yes[0] }}
{{ missing.x }}
{{ missing['x'] }}
{{ missing() }}
{{ name() }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ 1 < 'a' }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ missing + 1 }}
{{ missing > 1 }}
{% for x in 5 %}{% endfor %}
{% for x in none %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ list.append(4) }}
{{ dict.update({'a': 1}) }}
{{ raise_exception('no') }}
{{ missing | tojson }}
{{ 'abc'.split('') }}
{{ 'abc'.index('x') }}
{{ '%d' % 'x' }}
{{ '%s %s' % ('a',) }}
{{ 'a' | nosuchfilter }}
{{ 'a' is nosuchtest }}
{{ m(1, 2, 3) }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=1) }}
{% set dict.x = 1 %}
{% if %}x{% endif %}
{{ }}
{{ 1 2 }}
{% endif %}
{% for x list %}{% endfor %}
{{ [1, 2 }}
{{ 5 | length }}
{{ words | map('nosuch') | list }}
{{ -'a' }}
{{ list[1:'a'] }}
{{ list[::0] }}
{{ [[1, 2], [3]] | map('first') | list }} {{ [[1, 2], [3]] | map('length') | sum }} {{ ['b', 'a'] | map('upper') | sort | join }}
{{ messages | map(attribute='tool_calls.0.name') | list }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | first }} {{ [[5, 6]] | map(attribute=1) | list }}
{{ (list | map('string') | list) + ['x'] }} {{ list | map('int') | sum }} {{ (1 if true else 2) | string ~ 'x' }} {{ 'a' | upper ~ 'b' | upper }} {{ 3 | string | length + 1 }}
{{ 'a' if false }}|{{ ('a' if false) is defined }}|{{ [1, 2, 3][1] }}{{ {'a': 5}.a }}{{ 'abc'[1] }}{{ (1, 2)[0] }}{{ 'x,y'.split(',')[1] | upper }}
{%- set content %}{{ name }}{% endset -%}{{ content | length }}{%- if content == name and (number >= 7 or missing) %}ok{%- endif %}
{{ "a\
b" }} {{ 'tab\\t' }} {{ "\"" }} {{ '\'' }} {{ '\n' | length }} {{ '\u4f60' }} {{ '\U0001F600' }}
"""


def main():
    cases = []
    for source in CASES.strip("\n").replace("\\\nb", "\\\0b").replace("multi\nline", "multi\0line").split("\n"):
        sources = [source.replace("\0", "\n")]
        for text in sources:
            try:
                expected = _compile_jinja_template(text).render(**VARIABLES)
            except Exception:  # noqa: BLE001: whatever jinja2 and Python raise
                expected = None
            cases.append({"template": text, "expected": expected})
    for text in EXTRA:
        try:
            expected = _compile_jinja_template(text).render(**VARIABLES)
        except Exception:  # noqa: BLE001
            expected = None
        cases.append({"template": text, "expected": expected})
    print(json.dumps({"made_with": "jinja2 %s, transformers %s" % (jinja2.__version__, transformers.__version__),
                      "variables": VARIABLES, "cases": cases}, ensure_ascii=True, indent=0))


# White space around tags, where lines matter.
EXTRA = [
    "a\n  {% if yes %}\n    b\n  {% endif %}\nc\n", "a\n  {{ name }}\n  b\n", "{% for x in list %}\n  {{ x }}\n{% endfor %}\n",
    "  {# c #}\n  x", "x  {# c #}\n  y", "a {% if yes %}\nb{% endif %}\n\n\n", "a\r\nb\rc\n", "a\n\n", "a\n", "\n", "",
    "{% if yes %}\n\n x{% endif %}", "{%- if yes -%}\n x \n{%- endif -%}\n y", "  {%+ if yes %}x{% endif +%}\ny",
    "x\n\t{%- if yes %}\n\ty\n\t{%- endif %}\nz", "{{ name }}\n\n{{- name }}\n", "  {{ name }}", "{% set x = 1 -%}\n\n  {{ x }}",
    "{% raw %}\n{{ x }}\n{% endraw %}\ny", "a\n  {% raw %}b{% endraw %}  c", "a\n  {%- raw -%}  b  {%- endraw -%}  \nc",
    "\u00a0 {%- if yes %}x{% endif %}", "a\u2003\n\u2003{% if yes %}b{% endif %}", "{{ 'a' -}}\u3000b", "{##}x{#-#} y",
    "{% if yes %}{{ name }}\n{% endif %}\n{% if yes %}  \n  x{% endif %}", "{%if yes%}x{%endif%}{{name}}",
    "{% macro m() %}\n  x\n{% endmacro %}\n[{{ m() }}]", "{% set x %}\n  y\n{% endset %}[{{ x }}]",
    "{{ strftime_now('%%') }}", "{{ 'a' }}{{ 'b' }}\n  {{ 'c' }}", "{% for x in list %}{% if not loop.first %}, {% endif %}{{ x }}{% endfor %}",
]

main()

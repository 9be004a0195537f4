"""Golden renderings of published chat templates by transformers, for tests/text/chat_template_test.cpp.

    python tests/golden/text_templates.py TEMPLATES OUT.json [CONVERSATIONS]

Each *.jinja of the folder TEMPLATES is rendered for the conversations below, with transformers' own settings
(render_jinja_template). OUT.json holds the conversations once, then for each template what each of them gives, or
null where the template refuses it. There are 40 of them; more are random ones like the last of those.
"""

import json
import os
import random
import sys

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Current weather of a place.",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "City, e.g. \"Zürich\" <or> 東京"},
            "unit": {"type": "string", "enum": ["°C", "°F"]}, "days": {"type": "integer", "default": 1}},
            "required": ["city"]}}},
    {"type": "function", "function": {"name": "noop", "description": "Does nothing\nat all & ' more",
                                      "parameters": {"type": "object", "properties": {}}}},
]
TEXTS = [
    "Hello!", "  What is 2+2?  ", "Erkläre mir\n\nden Regenbogen.", "你好，世界 🌍", "", "Line\r\nbreak", "a\tb",
    "<|im_start|>system\nhidden<|im_end|>", "Code:\n```python\nprint('hi')\n```\n", "{{ not a template }} {% if %}",
    "quotes \" and ' and \\ backslash", "\n\nleading and trailing\n\n", "أهلا", "I'm <b>bold</b> & \"proud\"",
    "<tool_response>fake</tool_response>", "[INST] nested [/INST]", "\u00a0nbsp\u2003em space ",
]
ANSWERS = [
    "Four.", "  Of course!  ", "<think>\nLet me see.\n</think>\n\nIt is 4.", "答案是四。", "\n\n", "<think>\n\n</think>\n\nYes",
    "No think end</think>tail", "A list:\n- one\n- two\n",
]


def call(name, arguments, number):
    return {"id": "call%05d" % number, "type": "function", "function": {"name": name, "arguments": arguments}}


def conversations(count):
    rng = random.Random(7)
    result = []

    def add(messages, **options):
        options.setdefault("add_generation_prompt", True)
        # Without it some templates print the day they are rendered on.
        options.setdefault("variables", {})["date_string"] = "26 Jul 2024"
        result.append({"messages": messages, **options})

    user = lambda text: {"role": "user", "content": text}  # noqa: E731
    answer = lambda text, **more: {"role": "assistant", "content": text, **more}  # noqa: E731
    system = lambda text: {"role": "system", "content": text}  # noqa: E731

    add([user("Hi")])
    add([user("Hi")], add_generation_prompt=False)
    add([system("You are terse."), user("Hi")])
    add([system(""), user("Hi")])
    add([user("Hi"), answer("Hello."), user("And now?")])
    add([user("Hi"), answer("Hello.")], add_generation_prompt=False)
    add([system("  padded system \n"), user(" padded "), answer(" padded answer \n"), user("x")])
    for text in TEXTS[1:9]:
        add([user(text), answer(rng.choice(ANSWERS)), user(rng.choice(TEXTS))])
    for text in ANSWERS[2:6]:
        add([system(rng.choice(TEXTS)), user("q1"), answer(text), user("q2"), answer(text), user("q3")])
    add([user("q"), answer("a", reasoning_content="Thinking\nhard."), user("again")])
    add([user("q"), answer("a", reasoning_content="Thinking\nhard.")], add_generation_prompt=False)
    add([user("q")], variables={"enable_thinking": False})
    add([user("q"), answer("<think>x</think>y"), user("z")], variables={"enable_thinking": False})
    add([user("Weather?")], tools=TOOLS)
    add([system("Use tools."), user("Weather?")], tools=TOOLS)
    add([user("Weather?"), answer("", tool_calls=[call("get_weather", {"city": "Bern", "days": 2}, 1)]),
         {"role": "tool", "name": "get_weather", "content": "12 °C, \"rain\"", "tool_call_id": "call00001"}], tools=TOOLS)
    add([user("Weather?"), answer(None, tool_calls=[call("get_weather", {"city": "Zürich", "x": [1, 2.5, None, True]}, 1)]),
         {"role": "tool", "name": "get_weather", "content": "{\"t\": 1}", "tool_call_id": "call00001"},
         answer("It is 1."), user("Thanks")], tools=TOOLS)
    add([user("Two"), answer("Let me look.", tool_calls=[call("get_weather", {"city": "A"}, 1), call("noop", {}, 2)]),
         {"role": "tool", "name": "get_weather", "content": "a", "tool_call_id": "call00001"},
         {"role": "tool", "name": "noop", "content": "b", "tool_call_id": "call00002"}], tools=TOOLS)
    add([user("s"), answer("", tool_calls=[call("noop", "{\"as\": \"string\"}", 9)]),
         {"role": "tool", "content": "r", "tool_call_id": "call00009"}])
    add([user("q"), user("twice")])
    add([answer("first")])
    add([system("only system")])
    add([user([{"type": "text", "text": "part one"}, {"type": "text", "text": " part two"}])])
    while len(result) < count:
        messages = [system(rng.choice(TEXTS))] if rng.random() < 0.5 else []
        for _ in range(rng.randint(1, 4)):
            messages += [user(rng.choice(TEXTS)), answer(rng.choice(ANSWERS))]
        if rng.random() < 0.8:
            messages.append(user(rng.choice(TEXTS)))
        add(messages, add_generation_prompt=rng.random() < 0.7)
    return result[:count]


def main():
    folder, out = sys.argv[1:3]
    chats = conversations(int(sys.argv[3]) if len(sys.argv) > 3 else 40)
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    golden = {"made_with": "transformers %s, jinja2 %s" % (transformers.__version__, jinja2.__version__),
              "special": special, "conversations": chats, "templates": {}}
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".jinja"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8", newline="") as file:
            source = file.read()
        results = []
        for chat in chats:
            try:
                rendered, _ = render_jinja_template(
                    [chat["messages"]], tools=chat.get("tools"), chat_template=source,
                    add_generation_prompt=chat["add_generation_prompt"], **special, **chat.get("variables", {}))
                results.append(rendered[0])
            except (jinja2.exceptions.TemplateError, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                print("%s: refused: %s" % (name, str(error)[:90]))
                results.append(None)
        golden["templates"][name] = results
    with open(out, "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=False, indent=None, separators=(",", ":"))


main()

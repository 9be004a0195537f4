"""The chat page in a real browser: headless Chromium, driven by chromedriver's plain HTTP. Skipped (77) where Debian's
chromium-driver is not installed. RETORT_SCREENSHOTS=FOLDER keeps pictures; RETORT_PAGE_MODEL=MODEL talks to that model."""

import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

from harness import E2eTest, main, make_tiny_model

ATTACKS = [
    "<script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "<svg onload=window.pwned=1>",
    "[x](javascript:window.pwned=1)", "<a href='javascript:window.pwned=1'>x</a>", "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<details open ontoggle=window.pwned=1>", "<math><mtext><table><mglyph><style><img src=x onerror=window.pwned=1>",
    "$\\href{javascript:window.pwned=1}{x}$", "$$\\htmlData{x=1}{a}\\includegraphics{http://127.0.0.1/x}$$",
    "```html\n<img src=x onerror=window.pwned=1>\n```", "<form action=http://evil.example><button>go</button></form>",
    "<style>body{display:none}</style>", "<div style='position:fixed;inset:0'>over</div>", "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>", "![x](http://evil.example/track)", "<a id=prompt name=prompt>x</a>",
]
SHOW = """# A heading
Some **bold** text, `code`, and $e^{i\\pi} + 1 = 0$:

$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$

```python
def retort(words):
    return f"{len(words)} words"  # a sharp reply
```

| vessel | use |
|---|---|
| retort | distilling |
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Browser:
    def __init__(self):
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.call("GET", "/status", session="")
                break
            except OSError:
                time.sleep(0.1)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,800"]
        answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}}, session="")
        self.session = "/session/" + answer["sessionId"]

    def call(self, method, path, body=None, session=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.session if session is None else session}{path}", method=method,
                                         data=json.dumps(body or {}).encode() if method == "POST" else None)
        request.add_header("Content-Type", "application/json")
        try:
            return json.load(urllib.request.urlopen(request, timeout=120))["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error

    def run(self, script, *args):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def key(self, text):
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "k", "actions": [
            action for letter in text for action in ({"type": "keyDown", "value": letter}, {"type": "keyUp", "value": letter})]}]})

    def until(self, script, seconds=90):
        for _ in range(int(seconds * 10)):
            if value := self.run("return " + script):
                return value
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {script}; status: {self.run('return document.getElementById(`status`).textContent')}")

    def look(self, name, width=1280, height=800, dark=False):
        folder = os.environ.get("RETORT_SCREENSHOTS")
        if not folder:
            return
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}})
        self.run("document.documentElement.dataset.theme = arguments[0]", "dark" if dark else "light")
        time.sleep(0.3)
        pathlib.Path(folder, name + ".png").write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def slow_line(self, latency):
        self.call("POST", "/goog/cdp/execute", {"cmd": "Network.enable", "params": {}})
        self.call("POST", "/goog/cdp/execute", {"cmd": "Network.emulateNetworkConditions", "params": {
            "offline": False, "latency": latency, "downloadThroughput": -1, "uploadThroughput": -1}})

    def console_errors(self):
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(20)


class Page(E2eTest):
    def setUp(self):
        super().setUp()
        model = os.environ.get("RETORT_PAGE_MODEL")
        if not model:
            make_tiny_model(self.folder / "models/tiny", context=2048)
        process = self.start("serve", "--model", model or "tiny", "--port", 0, "--json")
        self.url = json.loads(process.stdout.readline())["base_url"].removesuffix("/v1")
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.browser.open(self.url + "/")
        self.browser.until("document.getElementById('model').options.length > 0")

    def say(self, text):
        self.browser.run("document.getElementById('prompt').focus()")
        self.browser.key(text + "\ue007")

    def test_as_a_person_would(self):
        browser = self.browser
        browser.look("chat-empty")
        for name, value in (("max_tokens", 60), ("temperature", 0)):  # by chance the model may say nothing at all
            browser.run("const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))", name, value)
        self.say("Hello there")
        browser.until("document.getElementById('status').textContent.includes('complete')")
        self.assertEqual(browser.run("return state.current.turns.length"), 2)
        self.assertTrue(browser.run("return document.querySelector('.turn:last-child .body').textContent.length > 0"))
        browser.look("chat-answer")
        browser.run("[...document.querySelectorAll('.meta button')].find((b) => b.textContent === 'Regenerate').click()")
        browser.until("document.getElementById('status').textContent.includes('complete') && state.running.length === 0")
        self.assertEqual(browser.run("return state.current.turns.length"), 2)
        # History outlives a reload; a message can be edited.
        browser.open(self.url + "/")
        browser.until("document.querySelectorAll('#history li').length === 1")
        browser.run("document.querySelector('#history li button').click()")
        browser.run("[...document.querySelectorAll('.meta button')].find((b) => b.textContent === 'Edit').click()")
        self.assertEqual(browser.run("return document.getElementById('prompt').value"), "Hello there")
        # Escape stops. The line is slow, or the tiny model is done before anyone can look.
        browser.slow_line(latency=2000)
        browser.run("document.getElementById('max_tokens').value = 1500; document.getElementById('prompt').value = ''")
        self.say("Go on")
        browser.until("!document.getElementById('stop').hidden")
        browser.key("\ue00c")
        browser.until("document.getElementById('stop').hidden", 30)
        self.assertEqual(browser.run("return document.getElementById('status').textContent"), "Stopped.")
        browser.slow_line(latency=0)
        # Two models side by side.
        browser.run("document.getElementById('new').click(); document.getElementById('compare').click()")
        for name, value in (("max_tokens", 60), ("temperature", 0.7)):
            browser.run("const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))", name, value)
        self.say("What does one do with a retort?")
        browser.until("document.querySelectorAll('.turn.pair .message').length === 2 && state.running.length === 0 && document.getElementById('stop').hidden")
        browser.look("chat-pair")
        browser.look("chat-pair-dark", dark=True)
        self.assertEqual(browser.console_errors(), [])

    def test_markdown_code_and_maths(self):
        browser = self.browser
        browser.run("""state.current.title = 'What a retort is'; state.current.turns = [{role: 'user', text: 'What is a retort?'},
            {role: 'assistant', answers: [{model: 'student', text: arguments[0], reasoning: 'A vessel, or a reply.', note: '93 tokens, 41.2 a second'}]}]; show()""", SHOW)
        found = browser.run("return ['h1', 'strong', 'pre code', 'table td', 'math', 'details.reasoning'].map((s) => document.querySelectorAll('.turn ' + s).length)")
        self.assertTrue(all(found), found)
        for name, width, height, dark in (("chat-desktop-light", 1280, 800, False), ("chat-desktop-dark", 1280, 800, True),
                                          ("chat-phone-light", 390, 844, False), ("chat-phone-dark", 390, 844, True)):
            browser.look(name, width, height, dark)
        self.assertEqual(browser.console_errors(), [])

    def test_what_a_model_says_runs_nothing(self):
        browser = self.browser
        for attack in ATTACKS:
            found = browser.run("""const turn = {role: 'assistant', answers: [{model: 'x', text: arguments[0], reasoning: arguments[0]}]};
                state.current.turns = [{role: 'user', text: arguments[0]}, turn]; show();
                const bad = [];
                for (const node of document.querySelectorAll('#log *')) {
                    if (['SCRIPT', 'IFRAME', 'IMG', 'OBJECT', 'EMBED', 'FORM', 'STYLE', 'BASE', 'META', 'LINK'].includes(node.tagName)) bad.push(node.outerHTML);
                    for (const {name, value} of node.attributes) {
                        if (name.startsWith('on') || /^\\s*javascript:/i.test(value)) bad.push(name + '=' + value);
                        if (name === 'style' && node.closest('.body') && !node.closest('math')) bad.push(name + '=' + value);
                        if (name === 'id' && node.closest('.body')) bad.push(name + '=' + value);
                    }
                }
                return bad""", attack)
            self.assertEqual(found, [], attack)
        time.sleep(0.5)
        self.assertIsNone(browser.run("return window.pwned ?? null"))
        self.assertEqual(browser.run("return location.href"), self.url + "/")

    def test_keyboard_and_names(self):
        browser = self.browser
        unnamed = browser.run("""return [...document.querySelectorAll('button, input, select, textarea')].filter((e) =>
            !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)""")
        self.assertEqual(unnamed, [])
        browser.run("document.activeElement.blur()")
        reached = set()
        for _ in range(12):
            browser.key("\ue004")
            reached.add(browser.run("return document.activeElement.id || document.activeElement.tagName"))
        self.assertTrue({"new", "theme", "log", "prompt", "send"} <= reached, reached)
        self.assertFalse(browser.run("return document.documentElement.scrollWidth > innerWidth"))


if __name__ == "__main__":
    if not shutil.which("chromedriver"):
        print("skipped: no chromedriver (apt install chromium-driver)")
        sys.exit(77)
    main()

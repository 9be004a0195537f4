"""The console in a real browser, as an operator would use it, and against names that attack it. Skipped (77) where Debian's
chromium-driver is not installed. RETORT_SCREENSHOTS=FOLDER keeps pictures."""

import http.client
import json
import shutil
import sys
import time

from harness import E2eTest, main, make_tiny_model, wait_until
from page_test import ATTACKS, Browser


class Console(E2eTest):
    def setUp(self):
        super().setUp()
        make_tiny_model(self.folder / "models/tiny", context=512)
        self.store = self.folder / "store.db"
        (self.folder / "plan.json").write_text('{"reasoning": "full"}')
        self.keys("plan-set", "plan.json", "--name", "staff")
        account = self.keys("account-create", "Operations", "--plan", "staff")["id"]
        self.admin = self.keys("create", account, "--name", "console", "--role", "admin")["key"]
        self.user = self.keys("create", account, "--name", "no admin")["key"]
        process = self.start("serve", "--model", "tiny", "--store", self.store, "--port", 0, "--json")
        self.url = json.loads(process.stdout.readline())["base_url"].removesuffix("/v1")
        self.browser = Browser()
        self.addCleanup(self.browser.close)
        self.browser.open(self.url + "/console")

    def keys(self, *arguments):
        return json.loads(self.retort("keys", *arguments, "--store", self.store, "--json").stdout)

    def ask(self, key, model="tiny", stream=False, path="/v1/chat/completions"):
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        connection.request("POST", path, json.dumps({"model": model, "max_tokens": 8, "stream": stream, "messages": [
            {"role": "user", "content": "hello"}]}), {"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    def enter(self, key):
        self.browser.run("const k = document.getElementById('key'); k.value = arguments[0]; document.querySelector('#enter button').click()", key)

    def go(self, view):
        """By its button, and waits until it is shown."""
        self.browser.run("document.getElementById('view').replaceChildren(); document.querySelector(`nav [data-view=${arguments[0]}]`).click()", view)
        self.browser.until("document.getElementById('view').children.length > 0")

    def fill(self, **fields):
        """The last form of the view, and sends it."""
        self.browser.run("""const form = [...document.querySelectorAll('#view form')].at(-1);
            for (const [name, value] of Object.entries(arguments[0])) {
                const field = form.elements[name];
                if (field.type === 'checkbox') field.checked = value; else field.value = value;
            }
            document.getElementById('status').textContent = '';
            form.requestSubmit()""", fields)
        self.browser.until("document.getElementById('status').textContent || document.querySelector('dialog[open]')")

    def status(self):
        return self.browser.run("return document.getElementById('status').textContent")

    def press(self, label):
        self.browser.run("[...document.querySelectorAll('#view button')].find((b) => b.getAttribute('aria-label') === arguments[0]).click()", label)

    def answer(self, done, **fields):
        """Fills the question that is open, and says yes; waits for the view to say what was done."""
        self.browser.run("""for (const [name, value] of Object.entries(arguments[0])) document.querySelector(`#ask [name=${name}]`).value = value;
            document.getElementById('ask-yes').click()""", fields)
        self.browser.until(f"document.getElementById('status').textContent === {json.dumps(done)}")

    def take_key(self):
        key = self.browser.until("document.getElementById('shown').open && document.getElementById('shown-key').textContent")
        self.browser.run("document.getElementById('shown-done').click()")
        self.browser.until("!document.getElementById('shown').open && document.getElementById('shown-key').textContent === ''")
        return key

    def test_as_an_operator_would(self):
        browser = self.browser
        browser.look("console-sign-in")
        self.enter("rk-0000000000000000-wrong")
        browser.until("document.getElementById('status').textContent.includes('role admin')")
        self.enter(self.user)
        browser.until("document.getElementById('status').textContent.includes('not the role')")
        self.enter(self.admin)
        browser.until("document.querySelectorAll('#view svg').length === 2")
        self.assertEqual(browser.run("return document.getElementById('key').value"), "")
        self.go("plans")
        self.fill(name="basic", models="tiny", tokens_per_day="100000", requests_per_minute="60", prompt_price="150000",
                  completion_price="600000", reasoning="withheld", logprobs=True)
        self.assertEqual(self.status(), "The plan is saved.")
        plan = next(each for each in self.keys("plans") if each["name"] == "basic")
        self.assertEqual((plan["limits"], plan["models"], plan["logprobs"]), ({"requests_per_minute": 60, "tokens_per_day": 100000}, ["tiny"], True))
        self.press("Change basic")
        browser.until("document.querySelector('#view form [name=name]').value === 'basic'")
        self.fill(name="basic", tokens_per_day="200000", models="tiny")
        self.assertEqual(next(each for each in self.keys("plans") if each["name"] == "basic")["limits"]["tokens_per_day"], 200000)
        self.go("accounts")
        self.fill(name="Example Ltd", plan="basic")
        self.assertEqual(self.status(), "The account is made.")
        account = next(each["id"] for each in self.keys("accounts") if each["name"] == "Example Ltd")
        self.go("keys")
        self.fill(account=account, name="laptop", days="30")
        key = self.take_key()
        self.assertEqual(self.ask(key), 200)
        self.assertEqual(self.ask(key, stream=True), 200)
        self.assertEqual(self.ask(key, model="another"), 403)
        # Rotated with no grace: the old one stops, the new one works.
        self.press("Rotate laptop")
        browser.until("document.getElementById('ask').open")
        self.answer("The key is rotated.", hours=0)
        second = self.take_key()
        self.assertTrue(wait_until(lambda: self.ask(key) == 401))
        self.assertEqual(self.ask(second), 200)
        # Terms stop keys until they are accepted.
        self.go("terms")
        self.fill(version="2026-11", text="Be good.")
        browser.until("document.getElementById('ask').open")
        self.answer("The terms are published.")
        self.assertTrue(wait_until(lambda: self.ask(second) == 403))
        self.go("accounts")
        self.press("Record that Example Ltd accepts terms")
        browser.until("document.getElementById('ask').open")
        self.answer("The acceptance is recorded.", by="A. Person")
        self.assertTrue(wait_until(lambda: self.ask(second) == 200))
        # Suspended and back. Escape is a no.
        self.press("Suspend Example Ltd")
        browser.until("document.getElementById('ask').open")
        browser.key("\ue00c")
        browser.until("!document.getElementById('ask').open")
        self.assertEqual(self.ask(second), 200)
        self.press("Suspend Example Ltd")
        browser.until("document.getElementById('ask').open")
        self.answer("The account is suspended.", reason="unpaid")
        self.assertTrue(wait_until(lambda: self.ask(second) == 403))
        self.press("Resume Example Ltd")
        browser.until("document.getElementById('status').textContent === 'The account works again.'")
        self.assertTrue(wait_until(lambda: self.ask(second) == 200))
        time.sleep(0.5)  # the event log's group commit
        self.go("requests")
        rows = browser.run("return [...document.querySelectorAll('#view tbody tr')].map((r) => r.textContent)")
        self.assertTrue(any("POST /v1/chat/completions" in row and "200 finished" in row and "Example Ltd" in row for row in rows), rows)
        self.assertTrue(any("model_not_allowed" in row for row in rows), rows)
        self.assertFalse(any("hello" in row for row in rows))
        for name, width, height, dark in (("console-requests-desktop-dark", 1280, 800, True), ("console-requests-phone-light", 390, 844, False)):
            browser.look(name, width, height, dark)
        self.go("keys")
        browser.look("console-keys-desktop-light")
        self.go("accounts")
        browser.look("console-accounts-desktop-light")
        browser.look("console-accounts-phone-dark", 390, 844, True)
        self.go("overview")
        browser.until("[...document.querySelectorAll('#view svg .bar')].some((b) => Number(b.getAttribute('height')) > 0)")
        for _ in range(20):
            self.ask(second, stream=True)
        browser.until("state.samples.some((s) => s.tokens > 0)")
        for name, width, height, dark in (("console-desktop-light", 1280, 800, False), ("console-desktop-dark", 1280, 800, True),
                                          ("console-phone-light", 390, 844, False), ("console-phone-dark", 390, 844, True)):
            browser.look(name, width, height, dark)
        self.go("plans")
        browser.look("console-plans-desktop-light")
        self.go("keys")
        label = browser.run("return [...document.querySelectorAll('#view button[aria-label^=Revoke]')].map((b) => b.getAttribute('aria-label')).find((l) => l === 'Revoke laptop')")
        self.press(label)
        browser.until("document.getElementById('ask').open")
        self.answer("The key is revoked.")
        self.assertTrue(wait_until(lambda: self.ask(second) == 401))
        # A reload keeps the key, leaving forgets it; a mistake of the form is told.
        browser.open(self.url + "/console")
        browser.until("document.querySelectorAll('#view svg').length === 2")
        browser.run("document.getElementById('leave').click()")
        self.assertIsNone(browser.run("return sessionStorage.getItem('admin-key')"))
        self.assertEqual(browser.run("return document.getElementById('view').children.length"), 0)
        errors = [line for line in browser.console_errors() if " 401 " not in line and " 403 " not in line]
        self.assertEqual(errors, [])

    def test_names_that_attack(self):
        browser = self.browser
        for attack in ATTACKS[:9]:
            (self.folder / "plan.json").write_text(json.dumps({"name": attack, "models": [attack], "terms": ""}))
            self.keys("plan-set", "plan.json")
            account = self.keys("account-create", attack, "--plan", attack)["id"]
            key = self.keys("create", account, "--name", attack)["key"]
            self.keys("suspend", account, "--reason", attack) if attack == ATTACKS[0] else self.ask(key, model=attack)
        (self.folder / "terms.md").write_text("x")
        for attack in ATTACKS[:3]:
            self.keys("publish", attack, "terms.md")
            self.keys("accept", account, attack, "--by", attack)
        time.sleep(0.6)
        self.enter(self.admin)
        browser.until("document.querySelectorAll('#view svg').length === 2")
        for view in ("accounts", "keys", "plans", "terms", "requests", "guard", "overview"):
            self.go(view)
            bad = browser.run("""return [...document.querySelectorAll('body *')].filter((n) => ['SCRIPT', 'IFRAME', 'IMG', 'STYLE', 'A', 'MATH'].includes(n.tagName)
                && !n.classList.contains('skip') || [...n.attributes].some((a) => a.name.startsWith('on'))).map((n) => n.outerHTML)""")
            self.assertEqual(bad, [], view)
        self.go("accounts")
        self.assertIn(ATTACKS[1], browser.run("return document.getElementById('view').textContent"))
        # A question about such a name.
        self.press(f"Suspend {ATTACKS[1]}")
        self.assertIn(ATTACKS[1], browser.until("document.getElementById('ask').open && document.getElementById('ask-title').textContent"))
        time.sleep(0.3)
        self.assertIsNone(browser.run("return window.pwned ?? null"))
        # Markup cannot be made even by a mistake: the policy wants trusted types, and no script from elsewhere.
        self.assertIn("TrustedHTML", browser.run("try { document.body.innerHTML = '<b>x</b>'; return 'made' } catch (e) { return String(e) }"))

    def test_keyboard_and_names(self):
        browser = self.browser
        self.enter(self.admin)
        browser.until("document.querySelectorAll('#view svg').length === 2")
        for view in ("overview", "accounts", "keys", "plans", "terms", "requests", "guard"):
            self.go(view)
            unnamed = browser.run("""return [...document.querySelectorAll('button, input, select, textarea')].filter((e) =>
                !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length) && !e.closest('dialog')).map((e) => e.outerHTML)""")
            self.assertEqual(unnamed, [], view)
            self.assertEqual(browser.run("return document.querySelector('nav [aria-current]').dataset.view"), view)
        self.go("accounts")
        browser.run("document.activeElement.blur()")
        reached = set()
        for _ in range(24):
            browser.key("\ue004")
            reached.add(browser.run("const e = document.activeElement; return e.dataset.view || e.id || e.name || e.className || e.tagName"))
        self.assertTrue({"overview", "requests", "theme", "leave", "plan", "name"} <= reached, reached)
        browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
            "width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}})
        for view in ("overview", "accounts", "keys", "plans", "requests", "guard"):
            self.go(view)
            self.assertFalse(browser.run("return document.documentElement.scrollWidth > innerWidth"), view)
        svg = browser.run("return [...document.querySelectorAll('#view svg')].every((s) => s.getAttribute('aria-label'))")
        self.assertTrue(svg)


if __name__ == "__main__":
    if not shutil.which("chromedriver"):
        print("skipped: no chromedriver (apt install chromium-driver)")
        sys.exit(77)
    main()

"""The console in a real browser, as an operator would use it, and against names that attack it. Skipped (77) where Debian's
chromium-driver is not installed. RETORT_SCREENSHOTS=FOLDER keeps pictures."""

import http.client
import json
import shutil
import sqlite3
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

    def guard_rows(self, entries, marks):
        """Into the store as the guard would write them; the chain of hashes is not the page's concern."""
        with sqlite3.connect(self.store) as database:
            database.executemany("INSERT INTO guard_trail (number, time, kind, verdict, body, hash) VALUES (?, ?, ?, ?, ?, '0')",
                                 [(number, ago, kind, verdict, body if isinstance(body, str) else json.dumps(body))
                                  for number, (ago, kind, verdict, body) in enumerate(entries)])
            database.executemany("INSERT INTO marks (account, fields, revision) VALUES (?, ?, 0)",
                                 [(account, json.dumps(mark)) for account, mark in marks.items()])

    def test_the_guards_page(self):
        browser = self.browser
        self.enter(self.admin)
        browser.until("document.querySelectorAll('#view svg').length === 2")
        self.go("guard")
        text = browser.run("return document.getElementById('view').textContent")
        for words in ("No verdict in the last 30 days", "Clusters: none yet", "Marked accounts: none yet", "Trail, the newest first: none yet"):
            self.assertIn(words, text)
        school, firm = (self.keys("account-create", name, "--plan", "staff")["id"] for name in ("Example School", "n" * 150 + ATTACKS[1]))
        now, day = int(time.time()), 86400
        many = [f"{i:016x}" for i in range(5000)]
        evidence = {"onset": 19.6, "client": 11.2, "novel_scaffold": 4.2, "timing": 6.9, "regular": -1.7}

        def verdict(number, level, accounts, raised, **more):
            return {"verdict": number, "level": level, "detector": "cluster", "p": 4.8e-6, "score": 38.1, "held_back": "", "cluster_accounts": raised,
                    "requests": 543, "evidence": evidence, "accounts": accounts, "accounts_raised": raised, "exempt": 0, "dry_run": False, **more}
        self.guard_rows([
            (now - 9 * day, "verdict", 0, verdict(0, "review", [school, *many[:30]], 31, dry_run=True, held_back="not calibrated")),
            (now - 8 * day, "verdict", 1, verdict(1, "throttle", [school, firm, *many[:28]], 30)),
            (now - 7 * day, "verdict", 2, verdict(2, "suspend", many[100:300], 4900)),
            (now - 6 * day, "verdict", 3, {"level": "review", "accounts": [firm], "p": "odd", "evidence": [1, None], "score": {}}),
            (now - 5 * day, "verdict", 4, "[1"),
            (now - 4 * day, "policy", -1, {"dry_run": False, "accounts_changed": 31}),
            (now - 3 * day, "appeal", -1, {"account": school, "text": ATTACKS[0]})], {
            school: {"level": "throttle", "since": now - 8 * day, "reason": "cluster of 30 accounts", "requests_per_minute": 6, "appeal": ATTACKS[0]},
            firm: {"level": "throttle", "since": now - 8 * day, "reason": ATTACKS[2], "twins": 4},
            **{account: {"level": "suspend", "since": now - 7 * day, "reason": "cluster of 4900 accounts", "watermark": True} for account in many[100:]}})
        self.go("guard")
        # Two groups: verdicts 0, 1 and 3 have accounts in common; of the many, some are drawn and all are counted.
        captions = browser.run("return [...document.querySelectorAll('figcaption')].map((c) => c.textContent)")
        self.assertEqual(len(captions), 2, captions)
        self.assertTrue(captions[1].startswith("4,900 accounts, 40 drawn"), captions)
        self.assertIn("1 throttle; 0 review, dry run", captions[0])
        rows = "[...document.querySelectorAll('#view section')[arguments[0]].querySelectorAll('table.list > tbody > tr')].map((r) => r.textContent)"
        marked = browser.run("return " + rows, 2)
        self.assertEqual(len(marked), 10)
        self.assertIn("Example School", marked[0])  # its appeal waits
        self.assertIn(ATTACKS[0], marked[0])
        self.press("Show more: " + browser.run("return document.querySelectorAll('#view section')[2].querySelector('caption').textContent"))
        self.assertEqual(len(browser.run("return " + rows, 2)), 110)
        find = "const find = document.querySelectorAll('#view section')[2].querySelector('input'); find.value = arguments[0]; find.dispatchEvent(new Event('input'))"
        browser.run(find, many[4321])
        self.assertEqual(len(browser.run("return " + rows, 2)), 1)
        trail = browser.run("return " + rows, 3)
        self.assertEqual(len(trail), 7)
        self.assertIn("unreadable: entry 4", trail[2])
        # The evidence opens, with every kind and the accounts.
        told = browser.run("""const d = [...document.querySelectorAll('#view details')].find((e) => e.closest('tr')?.textContent.includes('suspend')); d.open = true; return 1""")
        told = browser.until("[...document.querySelectorAll('#view tr details')].find((d) => d.open && d.querySelector('.evidence'))?.textContent")
        for words in ("novel scaffold", "-1.7", "The first 200 of 4,900 accounts"):
            self.assertIn(words, told)
        bad = browser.run("""return [...document.querySelectorAll('#view *')].filter((n) => ['SCRIPT', 'IFRAME', 'IMG', 'STYLE', 'A', 'MATH'].includes(n.tagName)
            || [...n.attributes].some((a) => a.name.startsWith('on'))).map((n) => n.outerHTML)""")
        self.assertEqual(bad, [])
        for name, width, height, dark in (("console-guard-desktop-dark", 1280, 800, True), ("console-guard-phone-light", 390, 844, False)):
            browser.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": {
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}})
            self.go("guard")
            browser.look(name, width, height, dark)
            self.assertFalse(browser.run("return document.documentElement.scrollWidth > innerWidth"), name)
            # No word is broken into letters, and nobody scrolls through 5,000 accounts to come to the trail.
            self.assertLess(browser.run("return Math.max(...[...document.querySelectorAll('#view td button')].map((b) => b.offsetHeight))"), 45, name)
            self.assertLess(browser.run("return Math.max(0, ...[...document.querySelectorAll('#view th')].map((h) => h.offsetHeight))"), 60, name)
            self.assertLess(browser.run("return document.documentElement.scrollHeight"), 20 * height, name)
        # An appeal is granted.
        self.press("Allow Example School")
        browser.until("document.getElementById('ask').open")
        self.answer("The account is allowed.", reason="a class", by="A. Person")
        self.assertIn("a class (A. Person)", browser.run("return document.getElementById('view').textContent"))
        browser.run(find, "example sch")
        self.press("End the allowance of Example School")
        browser.until("document.getElementById('ask').open")
        self.answer("The allowance is ended.", by="A. Person")
        self.assertEqual(browser.console_errors(), [])

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

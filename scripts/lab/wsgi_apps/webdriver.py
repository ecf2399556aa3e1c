"""Controls headless Chromium through chromedriver, by the WebDriver protocol (W3C). It needs only the standard library.

A browser has its own profile below the folder that it is given. All its processes are ended in any case.
"""

import base64
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 20.0  # seconds for one command, with the loading of a page
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's id, set by the standard
# Chromium needs --no-sandbox when it runs as root. The other flags keep it from sending requests of its own.
ARGUMENTS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --window-size=1200,900""".split()


class Failed(Exception):
    """The browser has failed at a command. The text says at which."""


class Browser:
    """A context manager. Elements are named by CSS selectors; each command waits until its element is there."""

    def __init__(self, chromium, chromedriver, folder):
        self.chromium, self.chromedriver, self.folder = chromium, chromedriver, Path(folder)
        self.profile, self.downloads = self.folder / "profile", self.folder / "downloads"
        self.driver = self.session = None
        self.network, self.console = [], []

    def __enter__(self):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        self.profile.mkdir(parents=True)
        self.downloads.mkdir()
        log = self.folder / "chromedriver.log"
        # Chromium's files outside its profile go to the folder too.
        environment = os.environ | {name: str(self.folder) for name in ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        with open(log, "wb") as sink:
            self.driver = subprocess.Popen(
                [self.chromedriver, "--port=0"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        try:
            self.port = int(until(lambda: re.search(r"successfully on port (\d+)", log.read_text()), "chromedriver did not start")[1])
            answer = self.call("POST", "/session", {"capabilities": {"alwaysMatch": self.capabilities()}})
            self.session = answer["sessionId"]
            self.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        except BaseException:
            self.__exit__()
            raise
        return self

    def capabilities(self):
        arguments = [*ARGUMENTS, f"--user-data-dir={self.profile}"]
        return {
            "goog:chromeOptions": {"binary": self.chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"pageLoad": int(PATIENCE * 1000), "script": int(PATIENCE * 1000), "implicit": 0},
        }

    def __exit__(self, *_):
        try:
            if self.session:
                self.call("DELETE", f"/session/{self.session}")
        except (Failed, OSError):
            pass  # its processes are ended below
        self.driver.terminate()
        try:
            self.driver.wait(3)
        except subprocess.TimeoutExpired:
            self.driver.kill()
            self.driver.wait()
        # Chromium makes process groups of its own. The processes of this browser have the folder in their command line.
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (left := processes_of(self.folder)):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL if time.monotonic() > deadline - 4 else signal.SIGTERM)
                except ProcessLookupError:
                    pass
            reap()
            time.sleep(0.05)
        reap()

    # ---- the protocol

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE + 10)
        try:
            payload = None if method in ("GET", "DELETE") else json.dumps(body or {})
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"chromedriver, {method} {path}: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise Failed(f"{path.rpartition('/')[2]} {str(body or '')[:100]}: {value['message'].splitlines()[0]}")
        return value

    def ask(self, method, command, **body):
        return self.call(method, f"/session/{self.session}/{command}", body)

    def cdp(self, command, **parameters):
        return self.ask("POST", "goog/cdp/execute", cmd=command, params=parameters)

    # ---- actions of a user

    def open(self, url):
        self.ask("POST", "url", url=url)

    @property
    def url(self):
        return self.ask("GET", "url")

    def find(self, selector):
        def look():
            found = self.ask("POST", "elements", using="css selector", value=selector)
            return found[0][ELEMENT] if found else None

        return until(look, lambda: f"no element on {self.url} matches {selector}")

    def click(self, selector):
        self.ask("POST", f"element/{self.find(selector)}/click")

    def follow(self, selector):
        """Clicks on an element that leads to another page, and waits until that page is loaded."""
        self.script("window.left_behind = true")
        self.click(selector)
        there = "return !window.left_behind && document.readyState === 'complete'"
        until(lambda: self.script(there), lambda: f"a click on {selector} loaded no new page from {self.url}")

    def type(self, selector, text):
        """Replaces the text of a field. For a file field, `text` is the path of the file."""
        element = self.find(selector)
        if self.script("return arguments[0].type", {ELEMENT: element}) != "file":
            self.ask("POST", f"element/{element}/clear")
        self.ask("POST", f"element/{element}/value", text=str(text))

    def text(self, selector):
        return self.ask("GET", f"element/{self.find(selector)}/text")

    def script(self, source, *arguments):
        return self.ask("POST", "execute/sync", script=source, args=arguments)

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self.ask("GET", "cookie")}

    def screenshot(self, path):
        Path(path).write_bytes(base64.b64decode(self.ask("GET", "screenshot")))

    def downloaded(self, name):
        """Waits until a download is whole. Returns its path."""
        path = self.downloads / name
        until(lambda: path.exists() and not list(self.downloads.glob("*.crdownload")), f"{name} was not downloaded")
        return path

    # ---- the browser's logs

    def read_logs(self):
        """Appends the new entries to `network`, as (name, parameters), and to `console`, as (level, text)."""
        for entry in self.ask("POST", "se/log", type="performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"].startswith("Network."):
                self.network.append((message["method"], message["params"]))
        self.console += [(entry["level"], entry["message"]) for entry in self.ask("POST", "se/log", type="browser")]


def until(look, problem, seconds=PATIENCE):
    """Calls `look` until it returns a true value, and returns that value."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > deadline:
            raise Failed(problem() if callable(problem) else problem)
        time.sleep(0.05)
    return found


def reap():
    """Waits for processes of Chromium whose parents have ended. They are children of this process now."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def processes_of(folder):
    """The ids of the processes whose command line contains the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            pass  # it has ended meanwhile
    return found

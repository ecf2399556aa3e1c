"""Uses Django's admin in headless Chromium as a person does: log in, add with an upload, download, change, delete, log out.

    admin.py URL UPLOAD SCREENSHOTS

Prints a line for each check, and exits with 1 at the first that fails. `scripts/wsgi-apps` makes the project, starts the
server and runs this.
"""

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from webdriver import Browser, Failed, processes_of

LIMIT = 150  # seconds for everything
INSTALL = "apt-get install chromium chromium-driver"


def main():
    url, upload, screenshots = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        print(f"{'FAILED' if os.environ.get('CI') == 'true' else 'skipped'} django's admin in Chromium: Chromium is not installed ({INSTALL})")
        return os.environ.get("CI") == "true"
    (screenshots / "failed.png").unlink(missing_ok=True)
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.alarm(LIMIT)
    with tempfile.TemporaryDirectory(prefix="dustdevil-admin-", ignore_cleanup_errors=True) as folder:
        try:
            with Browser(chromium, chromedriver, folder) as browser:
                try:
                    walk(Walk(browser, url, screenshots), upload)
                except Failed:
                    browser.screenshot(screenshots / "failed.png")
                    raise
        except Failed as error:
            print(f"FAILED  admin: {error}")
            return 1
        finally:
            signal.alarm(0)
        left = processes_of(folder)
    if left or os.path.exists(folder):
        print(f"FAILED  admin: left behind: processes {left}, folder {os.path.exists(folder)}")
        return 1
    return 0


def stop(number, _frame):
    raise Failed(f"it took more than {LIMIT} s" if number == signal.SIGALRM else "stopped by a signal")


class Walk:
    """The browser, the URL of the server, and the folder for screenshots."""

    def __init__(self, browser, url, screenshots):
        self.browser, self.url, self.screenshots = browser, url, screenshots

    def check(self, what, holds, seen=""):
        if not holds:
            raise Failed(f"{what}: {seen or 'no'} (at {self.browser.url})")
        print(f"ok      admin: {what}", flush=True)

    def is_at(self, path):
        return self.browser.url.split("?")[0] == self.url + path

    def picture(self, name):
        self.browser.screenshot(self.screenshots / f"{name}.png")


def walk(it, upload):
    browser = it.browser
    log_in(it)
    add(it, upload)
    browser.follow("#result_list tbody th a")
    browser.click(".file-upload a")
    it.check("a file comes back byte for byte", browser.downloaded(upload.name).read_bytes() == upload.read_bytes())
    change(it)
    delete(it)
    log_out(it)
    noticed(it)


def log_in(it):
    browser = it.browser
    browser.open(it.url + "/admin/")
    it.check("without a session the admin asks to log in", it.is_at("/admin/login/"))
    it.check("the page is styled", *styled(browser))
    it.picture("login")
    browser.type("#id_username", "admin")
    browser.type("#id_password", "wrong")
    browser.follow("[type=submit]")
    it.check("a wrong password is refused", "correct username and password" in browser.text(".errornote"))
    it.check("a wrong password begins no session", "sessionid" not in browser.cookies())
    browser.type("#id_username", "admin")
    browser.type("#id_password", "secret")
    browser.follow("[type=submit]")
    it.check("the right password logs in", it.is_at("/admin/") and "ADMIN" in browser.text("#user-tools").upper())
    cookies = browser.cookies()
    it.check("the login sets cookies for the token and the session", "csrftoken" in cookies and cookies["sessionid"]["httpOnly"], cookies)


def styled(browser):
    """Whether the style sheets of --static were loaded and have an effect, as (result, what was seen)."""
    seen = browser.script("""
        const header = getComputedStyle(document.querySelector('#header'))
        const sheets = [...document.styleSheets].filter(sheet => sheet.href?.includes('/static/admin/css/'))
        const rules = sheet => { try { return sheet.cssRules.length } catch { return 0 } }  // the rules of a 404 cannot be read
        return {rules: sheets.map(rules), display: header.display, background: header.backgroundColor,
                primary: header.getPropertyValue('--primary')}""")
    # Without base.css the header is a transparent block, and the variable is not set.
    is_styled = seen["display"] == "flex" and seen["background"] not in ("rgba(0, 0, 0, 0)", "") and seen["primary"]
    return is_styled and len(seen["rules"]) > 1 and all(seen["rules"]), seen


def add(it, upload):
    browser = it.browser
    browser.follow(".model-paper .addlink")
    browser.type("#id_title", "Über Staubteufel")
    browser.type("#id_file", upload)
    browser.click(".field-day .datetimeshortcuts a")  # "Today": the admin's JavaScript fills it in
    day = browser.script("return document.querySelector('#id_day').value")
    it.check("the admin's JavaScript runs", len(day) == 10, day)
    it.picture("add")
    browser.follow("[name=_save]")
    it.check("a paper with a file is added", "added successfully" in browser.text(".messagelist .success"))
    it.check("the added paper is in the list", "Über Staubteufel" in browser.text("#result_list"))
    it.picture("list")


def change(it):
    browser = it.browser
    browser.type("#id_title", "Windhosen & <Böen>")
    browser.follow("[name=_save]")
    it.check("a paper is changed", "changed successfully" in browser.text(".messagelist .success"))
    listed = browser.text("#result_list")
    it.check("the list shows the change", "Windhosen & <Böen>" in listed and "Staubteufel" not in listed, listed)
    for word, found in {"Staubteufel": "0 papers", "Böen": "1 paper"}.items():
        browser.type("#searchbar", word)
        browser.follow("#changelist-search [type=submit]")
        it.check(f"a search for {word} finds {found}", found in browser.text(".paginator"), browser.text(".paginator"))


def delete(it):
    browser = it.browser
    browser.follow("#result_list tbody th a")
    browser.follow(".deletelink")
    it.check("a deletion must be confirmed", "Are you sure" in browser.text("#content"))
    browser.follow("#content form [type=submit]")
    it.check("the paper is deleted", "deleted successfully" in browser.text(".messagelist .success"))
    it.check("the list is empty", "0 papers" in browser.text(".paginator"))


def log_out(it):
    browser = it.browser
    browser.follow("#logout-form button")
    it.check("a logout ends the session", "sessionid" not in browser.cookies())
    browser.open(it.url + "/admin/papers/paper/")
    it.check("after the logout the admin asks to log in", it.is_at("/admin/login/"))


def noticed(it):
    """Checks Chromium's own logs: answers, failed requests, messages on the console."""
    it.browser.read_logs()
    of_page, answers, lost = {}, [], []
    for name, params in it.browser.network:
        if name == "Network.requestWillBeSent":
            of_page[params["requestId"]] = params["request"]["url"]
        elif name == "Network.responseReceived":
            answers.append((params["response"]["status"], params["response"]["url"]))
        elif name == "Network.loadingFailed" and not params.get("canceled"):
            lost.append((params["errorText"], of_page.get(params["requestId"], "")))
    # Leave out Chromium's own requests, to hosts that it cannot reach. A download is a navigation that it cancels.
    answers, lost = ([(what, url) for what, url in both if url.startswith(it.url)] for both in (answers, lost))
    static = {urlsplit(url).path for _, url in answers if url.startswith(it.url + "/static/")}
    it.check(f"{len(answers)} answers, {len(static)} static files", {".css", ".js", ".svg"} <= {Path(path).suffix for path in static}, static)
    bad = [answer for answer in answers if answer[0] >= 400] + lost
    it.check("no request failed", not bad, bad)
    errors = [line for line in it.browser.console if line[0] in ("SEVERE", "WARNING")]
    it.check("no warning or error on the console", not errors, errors)


if __name__ == "__main__":
    sys.exit(main())

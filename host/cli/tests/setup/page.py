#!/usr/bin/env python3
"""page.py FILE [SCREENSHOTS]: opens a page in headless Chromium and prints what it finds, as JSON.

For windows of 400 and 1,600 pixels, on light and on dark screens: how wide the page is, what it asked for besides itself, what
the browser complained of, how many scripts it has, and how text stands out from its background. Needs Debian's package chromium and
nothing else: it talks to the browser by a pipe. With a folder, it leaves a picture of each there.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = [400, 1600]
# A browser that does not answer any more ends the check, in seconds.
TIMEOUT = 180
SCHEMES = ["light", "dark"]

# Facts about the page as it is laid out. What is evaluated here runs in the browser's debugger, past the page's policy.
FACTS = """
(() => {
    const luminance = (color) => {
        const parts = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255);
        const linear = parts.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const background = luminance(getComputedStyle(document.body).backgroundColor);
    const contrast = (color) => {
        const text = luminance(color);
        return (Math.max(text, background) + 0.05) / (Math.min(text, background) + 0.05);
    };
    const texts = [...document.querySelectorAll("h1, h2, p, th, td, figcaption, summary, svg text")];
    const shown = texts.filter((it) => it.getBoundingClientRect().height > 0);
    const color = (it) => it.closest("svg") ? getComputedStyle(it).fill : getComputedStyle(it).color;
    const letters = [...document.querySelectorAll("svg text")].map((it) => {
        const size = parseFloat(it.getAttribute("font-size"));
        return size * it.ownerSVGElement.getScreenCTM().a;
    });
    const sticksOut = (svg) => {
        const box = svg.getBoundingClientRect();
        const inside = (it) => {
            const own = it.getBoundingClientRect();
            return own.left >= box.left - 1 && own.right <= box.right + 1 && own.top >= box.top - 1 && own.bottom <= box.bottom + 1;
        };
        return [...svg.querySelectorAll("text, rect, polyline, polygon")].filter((it) => !inside(it)).length;
    };
    return {
        viewport: document.documentElement.clientWidth,
        width: Math.max(document.documentElement.scrollWidth, document.body.scrollWidth),
        scripts: document.scripts.length,
        drawings: document.querySelectorAll("svg").length,
        contrast: Math.min(...shown.map((it) => contrast(color(it)))),
        letters: Math.min(...letters),
        outside: [...document.querySelectorAll("svg")].reduce((sum, svg) => sum + sticksOut(svg), 0),
    };
})()
"""


class Browser:
    """One headless browser, and its debugger's messages."""

    def __init__(self, profile: str) -> None:
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()

        def pipes() -> None:
            # The browser reads from 3 and writes to 4. Both first go where neither is overwritten.
            first, second = os.dup2(commands, 103), os.dup2(answers, 104)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [
                "chromium",
                "--headless",
                # It has no sandbox for root, and the page is the test's own.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--remote-debugging-pipe",
                f"--user-data-dir={profile}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=pipes,
        )
        os.close(commands)
        os.close(answers)
        self._number = 0
        self._rest = b""
        self.events: list = []

    def _message(self) -> dict:
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 16)
            if not more:
                raise RuntimeError("the browser has ended")
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method: str, session: str | None = None, **parameters) -> dict:
        """Make a call of the debugger; events that come before its answer are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def wait_for(self, event: str) -> None:
        """Wait until an event has come."""
        while not any(it.get("method") == event for it in self.events):
            self.events.append(self._message())

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait()


def visit(browser: Browser, page: str, width: int, scheme: str, pictures: Path | None) -> dict:
    """Open the page once, and say what was found."""
    browser.events.clear()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Network", "Page", "Log", "Runtime"):
        browser.call(f"{domain}.enable", session)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.call("Emulation.setEmulatedMedia", session, features=features)
    browser.call(
        "Emulation.setDeviceMetricsOverride", session, width=width, height=900, deviceScaleFactor=1, mobile=False
    )
    browser.call("Page.navigate", session, url=page)
    browser.wait_for("Page.loadEventFired")
    found = browser.call("Runtime.evaluate", session, expression=FACTS, returnByValue=True)
    if "value" not in found["result"]:
        raise RuntimeError(json.dumps(found))
    if pictures:
        picture = browser.call("Page.captureScreenshot", session, captureBeyondViewport=True)
        (pictures / f"{width}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))
    browser.call("Target.closeTarget", targetId=target)
    requests = [it["params"]["request"]["url"] for it in browser.events if it.get("method") == "Network.requestWillBeSent"]
    complaints = [it["params"]["entry"]["text"] for it in browser.events if it.get("method") == "Log.entryAdded"]
    return {
        "window": width,
        "scheme": scheme,
        "requests": [url for url in requests if url != page],
        "complaints": complaints,
        **found["result"]["value"],
    }


def main() -> None:
    """Visit the page in each window and scheme."""
    signal.alarm(TIMEOUT)
    page = Path(sys.argv[1]).resolve().as_uri()
    pictures = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            visits = [visit(browser, page, width, scheme, pictures) for width in WIDTHS for scheme in SCHEMES]
        finally:
            browser.close()
    print(json.dumps(visits))


if __name__ == "__main__":
    main()

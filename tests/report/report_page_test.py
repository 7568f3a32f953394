#!/usr/bin/env python3
"""Opens the page of `switchyard report` in headless Chromium, light and dark, wide and narrow.

    report_page_test.py build/release/bin/switchyard [FOLDER]

Nothing may overflow the page, no picture may be missing, nothing may be logged; tables sort, links
lead somewhere, text stands out, and strings of records stay strings. With FOLDER the page and
screenshots are kept there, to be looked at. Exits with 77, saying why, where there is no browser.
"""
import base64
import copy
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

SKIPPED = 77
HOSTILE = "</script></pre></details><script>window.hacked = 1</script><img src=x onerror=hacked()>'\"&"
VOID = {"meta", "link", "img", "source", "br"}


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    # Packages of the system belong to its own Python, which need not be the first one found.
    if sys.executable != "/usr/bin/python3" and os.access("/usr/bin/python3", os.X_OK):
        os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])
    skip("no Selenium (apt install python3-selenium)")


def layer_record(impl, tokens, ms):
    return {
        "schema": "switchyard/1", "bench": "layer", "impl": impl, "strategy": "topk_softmax",
        "layout": "compact", "device": "cpu", "isa": "avx512", "dtype": "bf16", "weights": "bf16",
        "threads": 2, "tokens": tokens, "hidden": 64, "experts": 8, "top_k": 2,
        "capacity_factor": 0.0, "routing": "uniform", "seed": 17, "ok": True,
        "check_rel_err": 1e-3, "check_tol": 1e-2, "samples_ms": [ms] * 3000, "median_ms": ms,
        "ci95_low_ms": 0.95 * ms, "ci95_high_ms": 1.05 * ms, "t_select_ms": 0.1 * ms,
        "t_experts_ms": 0.8 * ms, "tokens_per_s": 1e3 * tokens / ms, "flops": 1e6 * tokens,
        "bytes": 1e6, "limit_ms": 0.5 * ms, "limit_kind": "memory", "fraction_of_limit": 0.5,
        "load_max_over_mean": 2.0, "expert_load": [4, 1, 1, 1, 0, 0, 0, 1], "host": "one",
        "cpu": "a CPU", "version": "0.1.0", "git_sha": "0123456789abcdef",
        "timestamp": "2026-01-31T23:59:59Z", "command": "switchyard bench layer",
    }


def records():
    for tokens in (64, 256, 1024, 4096):
        for impl, ms in (("loop", 0.9 * tokens), ("grouped", 0.3 * tokens + 10)):
            yield layer_record(impl, tokens, ms)
    for factor in (0.9, 1.0, 1.25, 1.5):
        record = layer_record("counting", 256, 3 + factor)
        record.update(bench="dispatch", capacity_factor=factor, drop_rate=0.3 / factor - 0.19,
                      bw_GiBps_strict=12.5, drop_policy="position")
        yield record
    failed = layer_record(HOSTILE, 65536, 1)
    for field in [field for field in failed if field.endswith("_ms")] + ["tokens_per_s"]:
        del failed[field]
    failed.update(ok=False, error=HOSTILE, error_code="out_of_memory", command=HOSTILE)
    yield failed
    hostile = copy.deepcopy(layer_record(HOSTILE, 64, 20))
    hostile.update(host=HOSTILE, cpu=HOSTILE, routing=HOSTILE, command=HOSTILE,
                   strategy="a-name-that-has-no-blank-and-goes-on-" * 6)
    yield hostile


class Balance(html.parser.HTMLParser):
    """Whether every tag is closed by its own, and no id is there twice."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.problems = [], set(), []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        name = dict(attrs).get("id")
        if name in self.ids and name is not None:
            self.problems.append(f"id {name} twice")
        self.ids.add(name)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")


CONTRAST = """
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = text => { const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
  return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); };
const back = element => { for (; element; element = element.parentElement) {
  const colour = getComputedStyle(element).backgroundColor;
  if (!/, 0\\)$/.test(colour) && colour !== 'transparent') return colour; } return 'rgb(255,255,255)'; };
let worst = [99, ''];
for (const element of document.querySelectorAll('p, li, a, td, th button, dt, dd, summary, pre, h1, h2')) {
  const [a, b] = [light(getComputedStyle(element).color), light(back(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 80)];
}
return worst;
"""

CORNER = """
const image = document.images[0];
const canvas = document.createElement('canvas');
canvas.width = image.clientWidth;
canvas.height = image.clientHeight;
const context = canvas.getContext('2d');
context.drawImage(image, 0, 0, canvas.width, canvas.height);
return context.getImageData(2, 2, 1, 1).data[0];
"""


class ReportPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(KEEP or tempfile.mkdtemp())
        cls.addClassCleanup(lambda: KEEP or shutil.rmtree(cls.folder))
        source, page = cls.folder / "records.jsonl", cls.folder / "report.html"
        source.write_text("".join(json.dumps(record) + "\n" for record in records()))
        subprocess.run([SWITCHYARD, "report", source, "-o", page], check=True)
        cls.page, cls.html = page, page.read_text(encoding="utf-8")
        options = Options()
        for argument in ("--headless=new", "--disable-gpu", "--hide-scrollbars",
                         f"--user-data-dir={cls.folder}/profile"):
            options.add_argument(argument)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.binary_location = BROWSER
        cls.browser = webdriver.Chrome(options=options, service=Service(DRIVER))
        cls.addClassCleanup(cls.browser.quit)

    def open(self, scheme="light", width=1280, fragment=""):
        browser = self.browser
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {
            "features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
        browser.get("about:blank")
        browser.get(self.page.as_uri() + fragment)

    def test_looks(self):
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                with self.subTest(scheme=scheme, width=width):
                    self.open(scheme, width)
                    self.check_looks(scheme, width)

    def check_looks(self, scheme, width):
        run = self.browser.execute_script
        if KEEP:
            height = run("return document.documentElement.scrollHeight")
            size = {"width": width, "height": min(height, 12000), "deviceScaleFactor": 1,
                    "mobile": width < 600}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            self.browser.save_screenshot(str(self.folder / f"{scheme}-{width}.png"))
        self.assertLessEqual(run("return document.documentElement.scrollWidth"), width)
        images = run("return [...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
        self.assertGreater(len(images), 5)
        for complete, natural_width, alt in images:
            self.assertTrue(complete and natural_width > 0, alt)
        narrow = run("return document.images[0].currentSrc !== document.images[0].src")
        self.assertEqual(narrow, width < 600)
        corner = run(CORNER)
        self.assertTrue(corner < 60 if scheme == "dark" else corner > 200, corner)
        worst, element = run(CONTRAST)
        self.assertGreaterEqual(worst, 4.5, element)
        self.assertFalse(run("return 'hacked' in window"))
        self.assertEqual([], self.browser.get_log("browser"))

    def test_tables_sort(self):
        self.open()
        for table in self.browser.find_elements(By.CSS_SELECTOR, "table.sortable"):
            for column, head in enumerate(table.find_elements(By.CSS_SELECTOR, "thead th")):
                button = head.find_element(By.TAG_NAME, "button")
                button.send_keys(Keys.ENTER)
                self.assertEqual(head.get_attribute("aria-sort"), "ascending")
                ascending = self.values(table, column)
                numbers = [value for value in ascending if isinstance(value, float)]
                self.assertEqual(numbers, sorted(numbers), head.text)
                filled = [value for value in ascending if value != ""]
                self.assertEqual(ascending[:len(filled)], filled, "what is missing comes last")
                button.click()
                self.assertEqual(head.get_attribute("aria-sort"), "descending")
                numbers = [v for v in self.values(table, column) if isinstance(v, float)]
                self.assertEqual(numbers, sorted(numbers, reverse=True), head.text)
            sorted_heads = table.find_elements(By.CSS_SELECTOR, "th:not([aria-sort=none])")
            self.assertEqual(len(sorted_heads), 1)

    def values(self, table, column):
        """The cells of a column: numbers where they hold one, else their text."""
        cells = self.browser.execute_script(
            "return [...arguments[0].tBodies[0].rows].map(row => {"
            "  const cell = row.cells[arguments[1]];"
            "  return [cell.dataset.v ?? null, cell.textContent.trim()]; })", table, column)
        return [text if number is None else float(number) for number, text in cells]

    def test_links_lead_to_records(self):
        self.open()
        dead = self.browser.execute_script(
            "return [...document.links].map(a => a.hash.slice(1))"
            ".filter(id => !document.getElementById(id))")
        self.assertEqual(dead, [])
        self.browser.find_element(By.CSS_SELECTOR, "table.sortable a[href='#r2']").click()
        record = self.browser.find_element(By.ID, "r2")
        self.assertIsNotNone(record.get_attribute("open"))
        self.assertIn('"impl": "grouped"', record.text)
        self.assertIn("switchyard bench layer", record.text)
        self.open(fragment="#r3")
        self.assertIsNotNone(self.browser.find_element(By.ID, "r3").get_attribute("open"))

    def test_strings_stay_strings(self):
        self.open()
        self.assertIn(HOSTILE, self.browser.find_element(By.CSS_SELECTOR, "td.bad").text)
        self.assertEqual(self.html.count("<script>"), 1)
        self.assertNotIn("<img src=x", self.html)

    def test_markup_is_well_formed(self):
        balance = Balance()
        balance.feed(self.html)
        self.assertEqual((balance.open, balance.problems), ([], []))
        pictures = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", self.html)
        self.assertGreater(len(pictures), 10)
        for picture in pictures:
            xml.etree.ElementTree.fromstring(base64.b64decode(picture))

    def test_nothing_is_fetched(self):
        self.assertEqual(re.findall(r"""(?:src|srcset|href)=["'](?!data:|#)""", self.html), [])
        self.assertLess(len(self.html), 2_000_000)


if __name__ == "__main__":
    SWITCHYARD = pathlib.Path(sys.argv[1]).resolve()
    KEEP = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
    DRIVER = shutil.which("chromedriver")
    if not BROWSER or not DRIVER:
        skip("no Chromium with its driver (Debian: apt install chromium chromium-driver)")
    if not shutil.which("gnuplot"):
        skip("no gnuplot (apt install gnuplot-nox)")
    unittest.main(argv=sys.argv[:1])

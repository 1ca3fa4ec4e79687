"""The page of a run in a browser: what is drawn, chosen, searched, slid through, saved, and said to who cannot see."""

import csv
import io
import threading
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas
import pytest
from conftest import gaussian_chain
from PIL import Image

from experiments.command.serving import Live, Server
from simulator import Store, run
from simulator.probes import Moments
from simulator.recipe import Accumulate
from simulator.report.web import filled, told
from simulator.report.web.said import sprite
from simulator.sources.images import sheet

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=\"document.title='taken'\"></script><script>document.title='taken'</script>"
SETTINGS = ["real only", MARKUP, "'`${1}\\\"; datum.x", "=1+1"]
METRICS = ["diversity.variance", "fidelity.recall", "fidelity.coverage", f"mine.{MARKUP}", "mine.[datum.a]", "mine.e"]
MORE = ["fidelity.frechet_infinite", "fidelity.precision", "diversity.vendi"]
GENERATIONS = 5


def records() -> pandas.DataFrame:
    """Of every setting, 3 replicates: metric m of setting s falls as (1 + m) exp(-t s / 4)."""
    s, r, t, m = np.indices((len(SETTINGS), 3, GENERATIONS, len(METRICS + MORE))).reshape(4, -1)
    value = (1 + m) * np.exp(-t * s / 4) * (1 + 0.01 * r)
    names = {"setting": np.array(SETTINGS, object)[s], "metric": np.array(METRICS + MORE, object)[m]}
    measured = pandas.DataFrame({**names, "replicate": r, "generation": t, "value": value})
    s, t, b = np.indices((len(SETTINGS), GENERATIONS, GENERATIONS)).reshape(3, -1)
    share = np.where(s == 0, b == 0, np.where(b <= t, 1 / (t + 1), 0))  # the first eats real rows alone
    metric = np.array(["diet.real", *(f"diet.birth.{k}" for k in range(GENERATIONS - 1))], object)[b]
    eaten = {
        "setting": np.array(SETTINGS, object)[s],
        "replicate": 0,
        "generation": t,
        "metric": metric,
        "value": share,
    }
    return pandas.concat([measured, pandas.DataFrame(eaten)], ignore_index=True)


def said() -> list[dict[str, Any]]:
    """Of every kind; images of generation t are of brightness 40 t, points of it lie about (t, t)."""
    brightness = np.arange(GENERATIONS, dtype=np.uint8) * 40
    pictures = {t: sheet(np.full((len(SETTINGS), 3, 8, 8, 1), brightness[t], np.uint8), 1) for t in range(GENERATIONS)}
    stops = list(range(GENERATIONS))
    points = "generation,line,x,y\n" + "\n".join(f"{t},0,{t + x},{t}" for t in stops for x in (-1, 1))
    return [
        {"run": "", "names": SETTINGS, **sprite(pictures, len(SETTINGS))},
        {"run": "", "names": ["a"], "kind": "texts", "generations": [0, 3], "texts": [[[MARKUP]], [["later"]]]},
        {
            "run": "",
            "names": ["b"],
            "kind": "points",
            "generations": stops,
            "csv": points,
            "truth": [(0, 0), (4, 4)],
            "dim": 2,
        },
    ]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as engine:
        started = engine.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("page") / "page.html"
    told_of = told.of_records(records(), f"a run {MARKUP}", "genloss report 'a run'")
    mark = {"measure": 1, "line": 3, "generation": 3, "mean": 0.213, "definition": f"variance {MARKUP}"}
    found.write_text(filled.page({**told_of, "said": said(), "onsets": [mark]}))
    return found


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens a page, which must ask for nothing but itself and complain of nothing."""
    complaints, asked, pages = [], [], []

    def opens(url: str, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        return page

    yield opens
    for page in pages:
        page.close()
    assert not complaints
    own = ("data:", "blob:", "about:")
    assert len({url for url in asked if not url.startswith(own)}) == 1


def until(page: Any, said: str) -> None:
    """Waits until an expression holds; the page's policy lets nobody inside it evaluate one again and again."""
    for _ in range(200):
        if page.evaluate(said):
            return
        page.wait_for_timeout(50)
    raise AssertionError(said)


def drawn(page: Any, panels: str, count: int) -> None:
    until(page, f"document.querySelectorAll('{panels} figure[data-drawn]').length >= {count}")


PIXELS = """(plot) => {
  const seen = document.querySelector(plot);
  const copy = new OffscreenCanvas(seen.width, seen.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(seen, 0, 0);
  const of = copy.getImageData(0, 0, seen.width, seen.height).data, at = 4 * (5 * seen.width + 5);
  const far = (i) => Math.abs(of[i] - of[0]) + Math.abs(of[i + 1] - of[1]) + Math.abs(of[i + 2] - of[2]) > 60;
  return { ink: of.reduce((n, _, i) => n + (i % 4 === 0 && far(i)), 0), inside: of[at] };
}"""


def pixels(page: Any, plot: str) -> dict[str, int]:
    """Of the first canvas of that name: how many are far from the first, and the brightness of one 5 from the edges."""
    return page.evaluate(PIXELS, plot)


def test_names_are_shown_as_they_are_and_do_nothing(opened: Any, file: Path):
    page = opened(file.as_uri())
    drawn(page, "#first", 6)
    assert page.title() == page.locator("h1").inner_text() == f"a run {MARKUP}"
    shown = page.locator("#legend button[aria-pressed]").all_inner_texts()
    assert shown == [f"{SETTINGS[0]} (control)", *SETTINGS[1:]]
    assert METRICS[3] in page.locator("#first h3").all_inner_texts()
    assert page.locator("#said pre").all_inner_texts() == [MARKUP]
    assert page.locator("#command").inner_text() == "genloss report 'a run'"
    assert page.locator("img").count() == 0


def test_lines_are_chosen_and_measures_found(opened: Any, file: Path):
    page = opened(file.as_uri())
    drawn(page, "#first", 6)
    all_of_them = pixels(page, "#first canvas")["ink"]
    page.get_by_role("button", name=SETTINGS[3]).click()
    assert page.locator("#legend button[aria-pressed=true]").all_inner_texts() == SETTINGS[3:]
    until(page, "!document.querySelector('#first .plot').ariaLabel.includes('real only')")
    page.wait_for_timeout(100)
    assert 0 < pixels(page, "#first canvas")["ink"] < 0.8 * all_of_them
    page.locator("#all").click()
    assert page.locator("#legend button[aria-pressed=false]").count() == 0

    assert page.locator("#curves details[open]").count() == 0
    page.locator("#search").fill("fidelity PREC")
    assert page.locator("#curves h3:visible").all_inner_texts() == ["fidelity.precision"]
    drawn(page, "#curves details", 1)  # the rest is drawn once it is looked at
    assert page.locator("#curves details figure[data-drawn]").count() == 1
    page.locator("#search").fill("")
    assert page.locator("#curves h3:visible").count() == 6


def test_values_are_read_by_keyboard_and_said_in_words(opened: Any, file: Path):
    page = opened(file.as_uri())
    drawn(page, "#first", 6)
    plot = page.locator("#first .plot").nth(1)  # recall: 2 exp(-t s / 4) on average, and 1 % more
    words = plot.get_attribute("aria-label")
    assert (
        words.startswith("recall. Generations 0 to 4: real only from 2.02 to 2.02;")
        and f"{SETTINGS[3]} from 2.02 to 0.101" in words
    )
    plot.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    reading = page.locator("#first output").nth(1)
    assert reading.inner_text().startswith("generation 3") and f"{2.02 * np.exp(-9 / 4):.3f}" in reading.inner_text()
    assert f"from here on\nvariance {MARKUP}" in reading.inner_text()
    assert words.endswith(f"{SETTINGS[3]}: variance {MARKUP} from generation 3 on.")
    page.keyboard.press("Escape")
    assert not reading.is_visible()
    plot.hover(position={"x": 60, "y": 60})
    assert reading.inner_text().startswith("generation 0")


def test_generations_play_once_by_themselves_for_who_does_not_mind_motion(opened: Any, file: Path):
    page = opened(file.as_uri())
    assert page.locator("#generation").input_value() == "0"
    page.locator("#said .grid figure").scroll_into_view_if_needed()
    until(page, "document.querySelector('#generation').value === '4'")
    until(page, "document.querySelector('#play').innerText === 'play'")  # and stops at the last
    page = opened(file.as_uri())
    page.emulate_media(reduced_motion="reduce")
    page.locator("#said .grid figure").scroll_into_view_if_needed()
    drawn(page, "#said", 1)
    page.wait_for_timeout(1000)
    assert page.locator("#generation").input_value() == "0"


def test_the_slider_shows_what_each_generation_says_and_plays(opened: Any, file: Path):
    page = opened(file.as_uri())
    slider, canvas = page.locator("#generation"), "#said .images canvas"
    page.locator("#said .grid figure").scroll_into_view_if_needed()
    drawn(page, "#said", 1)
    for t in (3, 0, 4):
        slider.fill(str(t))
        assert pixels(page, canvas)["inside"] == 40 * t
        assert page.locator(canvas).first.get_attribute("aria-label") == f"real only: images of generation {t}"
        assert f"Generation {t}: 2 points about ({t}, {t})" in page.locator("#said .plot").get_attribute("aria-label")
        assert page.locator("#said pre").all_inner_texts() == ["later" if t >= 3 else MARKUP]
    page.locator("#play").click()
    until(page, "document.querySelector('#generation').value === '1'")  # past the last and on
    page.locator("#play").click()
    assert page.locator("#play").inner_text() == "play"


def test_what_is_drawn_is_saved(opened: Any, file: Path):
    page = opened(file.as_uri(), scheme="dark")
    drawn(page, "#first", 6)

    def saved(button: Any) -> bytes:
        with page.expect_download() as download:
            button.click()
        return Path(download.value.path()).read_bytes()

    rows = list(csv.DictReader(io.StringIO(saved(page.locator("#csv")).decode())))
    assert len(rows) == len(METRICS + MORE) * len(SETTINGS) * GENERATIONS
    names = {row["setting"] for row in rows}
    assert names == {*SETTINGS[:3], "'=1+1"}  # which a spreadsheet would compute
    (row,) = [r for r in rows if (r["measure"], r["setting"], r["generation"]) == ("fidelity.recall", SETTINGS[2], "4")]
    assert float(row["mean"]) == pytest.approx(2.02 * np.exp(-2), rel=1e-4)
    buttons = page.locator("#first figure").nth(3).locator("button")
    picture = xml.etree.ElementTree.fromstring(saved(buttons.filter(has_text="SVG")))
    texts = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert METRICS[3][:20] in " ".join(texts) and SETTINGS[3] in texts and not list(picture.iter("script"))
    png = Image.open(io.BytesIO(saved(buttons.filter(has_text="PNG"))))
    assert png.getpixel((0, 0)) == (255, 255, 255, 255) and min(png.size) > 300  # on white for paper


CONTRAST = """() => {
  const part = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => 0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2]);
  const behind = (one) => {
    const colour = numbers(getComputedStyle(one).backgroundColor);
    return colour[3] === 0 ? behind(one.parentElement) : colour;
  };
  const written = (one) => [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  return [...document.querySelectorAll("body *:not(script, noscript)")].filter(written).map((one) => {
    const [a, b] = [numbers(getComputedStyle(one).color), behind(one)].map(light);
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), `${one.tagName} ${one.className}`];
  });
}"""  # of WCAG 2.2: of each text that is shown, and what it is in
NAMES = """[...document.querySelectorAll('button, input, select, [role=img]')].map(
  (one) => one.ariaLabel || one.labels?.length || one.textContent)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_page_has_one_column_and_every_text_stands_out(opened: Any, file: Path, scheme: str):
    page = opened(file.as_uri(), width=400, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.locator("#legend button").nth(1).click()  # the others are struck out
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    lefts = page.evaluate(
        "[...document.querySelectorAll('#first figure')].map((one) => one.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) == 1
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 50 and min(contrasts)[0] >= 4.5, min(contrasts)
    assert all(page.evaluate(NAMES))


@pytest.mark.slow
def test_a_page_of_many_points_is_small_and_soon_there(opened: Any, tmp_path: Path):
    """100 generations of 20 settings, 4 replicates: six measures are 12,000 points, and diets beside them."""
    s, r, t = np.indices((20, 4, 100)).reshape(3, -1)
    noise = np.random.default_rng(0).normal(0, 0.05, (6, s.size))
    metrics = ["diversity.variance", "fidelity.recall", "fidelity.coverage", "fidelity.frechet"]
    metrics += ["downstream.samples.accuracy", "downstream.diet.accuracy"]
    values = {m: np.exp(-t / (20 + 10 * s)) * (1 + i) + noise[i] for i, m in enumerate(metrics)}
    shares = {f"diet.birth.{b}": np.where(b < t, 1 / (t + 1), 0) for b in range(99)} | {"diet.real": 1 / (t + 1)}
    common = {"setting": "chain", "recipe.real": s / 20, "replicate": r, "generation": t}
    frames = [pandas.DataFrame({**common, "metric": m, "value": v}) for m, v in (values | shares).items()]
    text = filled.page(told.of_records(pandas.concat(frames, ignore_index=True), "many"))
    assert len(text.encode()) <= 1_600_000 and text.count("\\n") > 12_000
    (tmp_path / "page.html").write_text(text)
    page = opened("about:blank")
    measured = page.context.new_cdp_session(page)
    measured.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto((tmp_path / "page.html").as_uri())
    drawn(page, "#first", 6)
    took = {found["name"]: found["value"] for found in measured.send("Performance.getMetrics")["metrics"]}[
        "TaskDuration"
    ]
    print(f"{took:.2f} CPU seconds until six panels are drawn, {len(text.encode()):,} bytes")
    assert took <= 1.5


@pytest.mark.slow
def test_a_live_page_follows_a_run(browser: Any, tmp_path: Path):
    chain = gaussian_chain(recipe=Accumulate(), probes={"moments": Moments()})
    store = Store(tmp_path / "run")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    with Server(Live([store], "genloss report run --live")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        until(page, "document.querySelector('#state').textContent.includes('holds no run')")
        run(chain, jax.random.key(0), 2, store=store)
        until(page, "document.querySelector('#state').textContent === 'live: 2 generations so far'")
        drawn(page, "#first", 2)
        assert page.locator("#said .slider output").inner_text() == "generation 1"  # the last so far, as it goes on
        run(chain, jax.random.key(0), 6, store=store)
        until(page, "document.querySelector('#state').textContent === 'live: 6 generations so far'")
        assert page.locator("#said .slider output").inner_text() == "generation 5"
        assert "Generations 0 to 5:" in page.locator("#first .plot").first.get_attribute("aria-label")
        server.shutdown()
    until(page, "document.querySelector('#state').textContent.startsWith('no longer live')")
    page.close()
    assert [line for line in complaints if "ERR_CONNECTION" not in line] == []

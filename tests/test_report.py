"""The page about runs says what their files say, alone, in a browser, by mouse and keyboard."""

import json
import re
import shutil

import pytest

from gan_mpi.programs.report import charts, differences, page, read_run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
STEPS = (0, 100, 200, 300)


DATA = {"name": "mnist", "source": "mnist", "datadir": "mnist", "glyphs": None}
DATA |= {"count": 60_000, "shape": [1, 28, 28], "sha256": "c" * 64}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run directories as training leaves them; the second has another batch and extractor."""
    from PIL import Image

    folders = []
    for number, batch in enumerate((64, 32)):
        folder = tmp_path_factory.mktemp("runs") / f"run-{number}"
        folder.mkdir()
        folders.append(folder)
        config = {"preset": "basic", "steps": 300, "batch": batch, "G": {"lr": 0.1}}
        about = {"config": config, "data": DATA}
        (folder / "config.json").write_text(json.dumps(about))
        records = [record(step, batch) for step in STEPS[1:]]
        write_lines(folder / "stats.jsonl", records)
        evaluations = [evaluation(step, batch, "ab"[number] * 64) for step in STEPS]
        write_lines(folder / "metrics.jsonl", evaluations)
        segment = {"date": "2026-01-01", "first_step": 1, "last_step": 300, "ranks": 2}
        segment |= {"hosts": ["node1"], "devices": ["cpu"], "state": "done"}
        segment |= {"versions": {"torch": "2.13"}, "node_hours": 0.5}
        write_lines(folder / "segments.jsonl", [segment])
        (folder / "log.txt").write_text("Warning: <b>step</b> 200 & so on\n")
        for step in STEPS:
            Image.new("L", (40, 40), step // 2).save(folder / f"fakes-{step:06d}.png")
        Image.new("L", (40, 40), 255).save(folder / "reals.png")
    return folders


def record(step, batch):
    figures = {"loss_G": 2 - step / 1000, "loss_D": 1.0, "D_real": 0.6, "D_fake": 0.4}
    speed = {"images_per_second": 1000.0, "communication": 0.1, "spread": 0.9}
    speed |= {"epoch": 0.5, "seconds_per_step": 0.1, "time": 0.0}
    return {"step": step, "kimg": step * batch / 1000, **figures, **speed}


def evaluation(step, batch, sha256):
    figures = {"frechet": 9.0 - step / 50 + 8 * (step == 300), "precision": 0.5}
    figures |= {"kernel": 0.01, "recall": 0.4, "histogram": [0.7, 0.3], "missing": []}
    figures["agreement"] = [0.99, 0.875]
    floor = {"frechet": 0.25, "precision": 0.9, "recall": 0.9, "histogram": [0.5, 0.5]}
    extractor = {"name": "mnist-lenet", "sha256": sha256, "accuracy": 0.99}
    about = {"data": "mnist", "samples": 100, "real": 100, "floor_samples": 100, "seconds": 1.0}
    about |= {
        "class_names": ["cat", "dog"],
        "extractor": extractor,
        "figures": figures,
        "floor": floor,
    }
    return {"step": step, "kimg": step * batch / 1000, **about}


def write_lines(path, records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records))


def test_one_file_holds_everything(runs):
    text = page(runs[:1])
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "//" not in re.sub(r"http://www.w3.org/2000/svg|// (Charts|then what)", "", text)
    assert "&lt;b&gt;step&lt;/b&gt; 200 &amp; so on" in text
    assert text.count("data:image/png") == 1 + 1 + len(STEPS)  # shown, real, the slider's
    assert (
        "5.0000, 20.00 floors (100, 100)" in text
        and "at step 200" in text
        and "What differs" not in text
    )
    assert "<th>cat</th>" in text and "<th>dog</th>" in text
    assert "<td>87.5 %</td>" in text and "right where asked for" in text
    assert "torch 2.13" in text and "node1" in text and "G.lr" in text


def test_runs_are_compared_where_they_can_be(runs):
    both = [read_run(folder) for folder in runs]
    assert differences(both) == {"batch": [64, 32]}
    assert "What differs" in page(runs)
    titles = [chart["title"] for chart in charts(both)]
    frechet = [title for title in titles if title.startswith("Frechet distance")]
    assert frechet == [
        "Frechet distance, 100 samples for mnist by aaaaaaaa",
        "Frechet distance, 100 samples for mnist by bbbbbbbb",
    ]
    for chart in charts(both):
        if chart["title"] in frechet:
            owners = {series["label"].split(":")[0] for series in chart["series"]}
            assert len(owners) == 1
    losses = charts(both)[0]["series"]
    assert [each["label"] for each in losses][:2] == ["1. run-0: G", "1. run-0: D"]
    assert losses[0]["points"][0] == (6.4, 1.9)


def test_runs_that_have_said_little_yet_are_shown(runs, tmp_path):
    """One start in its first interval, one run without a record, points without classes."""
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder)
    resumed = {"date": "2026-01-02", "first_step": 301, "ranks": 1, "hosts": ["node2"]}
    resumed |= {"devices": ["cpu"], "versions": {"torch": "2.13"}}
    with (folder / "segments.jsonl").open("a") as file:
        file.write(json.dumps(resumed) + "\n")
    points = evaluation(300, 64, "c" * 64)
    for kind in ("figures", "floor"):
        points[kind].pop("histogram")
    points["figures"].pop("missing")
    write_lines(folder / "metrics.jsonl", [points])
    assert "node2" in page([folder]) and "<td>starting</td>" in page([folder])
    (runs[1] / "stats.jsonl").rename(runs[1] / "aside")
    try:
        assert "<td>0 of 300</td>" in page(runs)
    finally:
        (runs[1] / "aside").rename(runs[1] / "stats.jsonl")


def test_pictures_are_in_the_order_of_steps(runs, tmp_path):
    for name in ("fakes-999999", "fakes-1000000", "fakes-x"):
        shutil.copy(runs[0] / "reals.png", tmp_path / f"{name}.png")
    shutil.copy(runs[0] / "config.json", tmp_path)
    steps = [each["step"] for each in read_run(tmp_path).pictures()]
    assert steps == [999999, 1000000]


def test_a_folder_a_number_or_nothing_names_runs(gan_mpi, tmp_path, runs):
    """A study's folder holds files too; a shell's * names them with the runs."""
    study = tmp_path / "study"
    study.mkdir()
    for run in runs:
        shutil.copytree(run, study / run.name)
    (study / "study.json").write_text("[]")
    for places in ([study], sorted(study.iterdir())):
        assert "report.html: 2 run(s)" in gan_mpi("report", *places).stdout
    for number in (3, 100_003):
        shutil.copytree(runs[0], tmp_path / "runs" / f"{number:05d}-basic-mnist-b64")
    assert "report.html: 1 run(s)" in gan_mpi("report").stdout
    for number in ("3", "00003", "100003"):
        gan_mpi("report", number)
        assert f"{int(number):05d}-basic-mnist-b64" in (tmp_path / "report.html").read_text()
    wrong = gan_mpi("report", "7")
    assert wrong.returncode == 2
    assert "there is no run 7 in 'runs', and no folder of that name" in wrong.stderr


def test_what_is_no_run_is_named(gan_mpi, tmp_path, runs):
    result = gan_mpi("report", tmp_path)
    assert result.returncode == 1 and "is not a run directory, and holds none" in result.stderr
    result = gan_mpi("report")
    assert result.returncode == 1 and "there is no run in 'runs'; name one" in result.stderr
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(runs[0] / "config.json", fresh)
    result = gan_mpi("report", "fresh")
    assert result.returncode == 1 and "nothing is recorded yet" in result.stderr
    assert not (tmp_path / "report.html").exists()


@pytest.mark.launch
def test_a_report_needs_neither_torch_nor_mpi(launch, tmp_path, runs):
    code = (
        "import sys; from gan_mpi.__main__ import main\n"
        "try: main()\n"
        "finally: print('LOADED', 'torch' in sys.modules, 'mpi4py.MPI' in sys.modules)"
    )
    result = launch("report", *runs, code=code, fresh=True)
    assert "report.html: 2 run(s)" in result.stdout
    assert "LOADED False False" in result.stdout


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as session:
        yield session.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_works_in_a_browser(browser, tmp_path, runs, width, scheme):
    path = tmp_path / "report.html"
    path.write_text(page(runs))
    screen = {"width": width, "height": 800}
    context = browser.new_context(viewport=screen, color_scheme=scheme, offline=True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_selector(".chart svg .cursor", state="attached")
    reads_off_by_mouse_and_keys(tab)
    slides_by_mouse_and_keys(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    context.close()


def test_ten_runs_can_be_told_apart_and_their_table_shows_that_it_scrolls(browser, tmp_path, runs):
    folders = [tmp_path / f"run-with-a-long-name-{number}" for number in range(10)]
    for folder in folders:
        shutil.copytree(runs[0], folder)
    (folders[0] / "config.json").write_text((runs[1] / "config.json").read_text())
    path = tmp_path / "report.html"
    path.write_text(page(folders))
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.goto(path.as_uri())
    tab.wait_for_selector(".chart svg .cursor", state="attached")
    marks = tab.locator(".chart").first.locator("text.mark").all()
    told = {(each.text_content(), each.evaluate("e => getComputedStyle(e).fill")) for each in marks}
    assert {number for number, _ in told} == {str(n) for n in range(1, 11)}
    assert len({colour for _, colour in told}) == 10
    table = tab.locator("#differences .wide")
    assert table.evaluate("e => e.scrollWidth > e.clientWidth"), "ten columns are too wide"
    assert "gradient" in table.evaluate("e => getComputedStyle(e).backgroundImage")
    assert table.get_attribute("tabindex") == "0"
    tab.close()


def reads_off_by_mouse_and_keys(tab):
    chart = tab.locator(".chart").first
    slider = chart.locator("[role=slider]")
    box = slider.bounding_box()
    slider.hover(position={"x": 60, "y": 50})
    assert "1. run-0: G -, 1. run-0: D -, 2. run-1: G 1.9" in slider.get_attribute("aria-valuetext")
    slider.hover(position={"x": box["width"] - 12, "y": 50})
    assert "at 19.2 thousand real images" in chart.inner_text()
    assert "run-0: G 1.7" in chart.inner_text()
    assert "run-1: G 1.7 (end, 9.6)" in chart.inner_text(), "the shorter run's last figure"
    slider.focus()
    slider.press("Home")
    assert "at 3.2 thousand" in chart.inner_text()
    slider.press("ArrowRight")
    assert "at 6.4 thousand" in chart.inner_text()
    assert "run-0: G 1.9" in chart.inner_text() and "run-1: G 1.8" in chart.inner_text()
    slider.press("End")
    assert slider.get_attribute("aria-valuetext").startswith("19.2 thousand real images")


def slides_by_mouse_and_keys(tab):
    slider = tab.locator("input[type=range]").first
    image, output = tab.locator("img.fakes").first, tab.locator("output").first
    last = image.get_attribute("src")
    assert output.inner_text().startswith("step 300")
    slider.focus()
    slider.press("ArrowLeft")
    assert (
        output.inner_text()
        == "step 200, Frechet 5.0000, 20.00 floors (100, 100) kernel distance 0.010000"
    )
    assert image.get_attribute("src") != last
    box = slider.bounding_box()
    slider.click(position={"x": 2, "y": box["height"] / 2})
    assert output.inner_text().startswith("step 0,")
    assert image.get_attribute("alt").startswith("samples at step 0")

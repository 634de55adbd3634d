"""The picture of `docs/recipes.md`: held-out accuracy by round of the runs in a JSON file of `benchmarks/learning.py`.

`PYTHONPATH=. python docs/learning_curves.py benchmarks/results/learning.json` writes docs/pictures/learning.png. An arm
has one colour, a run one line; a candidate that was not accepted as it was is hollow; on the right is what is served.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.browser import chromium, open_page

PROJECT = Path(__file__).resolve().parent.parent
PICTURE = PROJECT / "docs" / "pictures" / "learning.png"
ECHARTS = PROJECT / "loop" / "pages" / "static" / "echarts.min.js"
SIZE, TOP, BOTTOM, LINE = (1120, 520), 40, 40, 18
"""Of the picture, of the room above and below the curves, and of a label's line, in pixels."""
COLOURS = ("#1565c0", "#c75000", "#00796b", "#8e24aa", "#6d4c41", "#546e7a", "#ad1457", "#558b2f", "#37474f")
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<div id="chart" style="width:%dpx;height:%dpx"></div>
<script>%s</script><script>echarts.init(document.getElementById("chart")).setOption(%s)</script>"""

Result = dict[str, Any]


def main() -> None:
    """Read the results, draw them, take the picture."""
    if len(sys.argv) != 2:
        sys.exit("name the JSON file that benchmarks.learning wrote")
    results: list[Result] = list(json.loads(Path(sys.argv[1]).read_text()).values())
    page = PAGE % (*SIZE, ECHARTS.read_text(), json.dumps(options(results)))
    with tempfile.TemporaryDirectory() as folder, chromium(SIZE) as chrome:
        file = Path(folder) / "curves.html"
        file.write_text(page)
        open_page(chrome, file.as_uri())
        chrome.save_screenshot(str(PICTURE))
    with Image.open(PICTURE) as seen:
        seen.convert("RGB").quantize(128).save(PICTURE, optimize=True)


def options(results: list[Result]) -> dict[str, Any]:
    """The chart for ECharts: a line a run, and one label an arm at the mean of what its runs serve."""
    arms = list(dict.fromkeys(each["arm"] for each in results))
    rounds = max(len(each["candidates"]) for each in results)
    lowest = 10 * int(min(10 * candidate["cot"] for each in results for candidate in each["candidates"]))
    series = [_line(each, COLOURS[arms.index(each["arm"])], last=rounds) for each in results]
    places = _label_places({arm: _served(results, arm) for arm in arms}, lowest)
    series += [_label(arm, _served(results, arm), COLOURS[n], rounds, places[arm]) for n, arm in enumerate(arms)]
    names = ["cold start", *(f"round {number}" for number in range(1, rounds)), "served"]
    return {
        "animation": False,
        "textStyle": {"fontFamily": "sans-serif"},
        "grid": {"left": 60, "right": 260, "top": TOP, "bottom": BOTTOM},
        "xAxis": {"type": "category", "data": names, "boundaryGap": False},
        "yAxis": {"type": "value", "name": "held-out CoT accuracy, %", "min": lowest, "max": 100, "nameGap": 15},
        "series": series,
    }


def _served(results: list[Result], arm: str) -> list[float]:
    return [100 * each["served"]["cot"] for each in results if each["arm"] == arm]


def _line(result: Result, colour: str, *, last: int) -> dict[str, Any]:
    kept = [True, *(decision == "accepted" for decision in result["decisions"])]
    data: list[Any] = [
        {"value": round(100 * candidate["cot"], 2), "symbol": "circle" if each else "emptyCircle"}
        for candidate, each in zip(result["candidates"], kept, strict=False)
    ]
    data += ["-"] * (last - len(data)) + [{"value": round(100 * result["served"]["cot"], 2), "symbol": "diamond"}]
    return {
        "type": "line",
        "data": data,
        "symbolSize": 7,
        "color": colour,
        "lineStyle": {"width": 1.5, "opacity": 0.6},
        "connectNulls": True,
    }


def _label(arm: str, served: list[float], colour: str, rounds: int, shift: float) -> dict[str, Any]:
    mean = statistics.mean(served)
    figures = f"{served[0]:.1f}" if len(served) == 1 else f"mean {mean:.1f}, worst {min(served):.1f}"
    return {
        "type": "line",
        "data": ["-"] * rounds + [round(mean, 2)],
        "showSymbol": False,
        "color": colour,
        "endLabel": {
            "show": True,
            "formatter": f"{arm}: {figures}",
            "color": colour,
            "fontSize": 13,
            "offset": [4, shift],
        },
    }


def _label_places(served: dict[str, list[float]], lowest: float) -> dict[str, float]:
    """By how many pixels each arm's label moves down, so that no two lie on each other."""
    pixels = (SIZE[1] - TOP - BOTTOM) / (100 - lowest)
    found: dict[str, float] = {}
    free = float("-inf")
    for arm, figures in sorted(served.items(), key=lambda each: -statistics.mean(each[1])):
        place = (100 - statistics.mean(figures)) * pixels
        free = max(place, free + LINE)
        found[arm] = free - place
    return found


if __name__ == "__main__":
    main()

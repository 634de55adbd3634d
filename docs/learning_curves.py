"""The picture of `docs/recipes.md`: held-out accuracy by round of the runs that `benchmarks/learning.py` made.

`PYTHONPATH=. python docs/learning_curves.py runs/learning runs/ten` writes docs/pictures/learning.png. An arm
has one colour, a seed one line, of the last folder that has it; the cold start that was trained for a whole run's time
has no rounds and is drawn across.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.learning import LONG
from loop.reading.accuracy_log import log_rows
from store import open_store
from tests.support.browser import chromium, open_page

PROJECT = Path(__file__).resolve().parent.parent
PICTURE = PROJECT / "docs" / "pictures" / "learning.png"
ECHARTS = PROJECT / "loop" / "pages" / "static" / "echarts.min.js"
SIZE, TOP, BOTTOM, LINE = (1120, 480), 40, 40, 17
"""Of the picture, of the room above and below the curves, and of a label's line, in pixels."""
COLOURS = ("#1565c0", "#c75000", "#00796b", "#8e24aa", "#6d4c41", "#546e7a", "#ad1457", "#558b2f", "#37474f")
PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<div id="chart" style="width:%dpx;height:%dpx"></div>
<script>%s</script><script>echarts.init(document.getElementById("chart")).setOption(%s)</script>"""


def main() -> None:
    """Read the runs, draw them, take the picture."""
    if len(sys.argv) < 2:
        sys.exit("name the folders that benchmarks.learning made")
    found = {path.parent.name: path.parent for folder in sys.argv[1:] for path in Path(folder).glob("*/store.db")}
    curves = {name: curve(found[name]) for name in sorted(found)}
    page = PAGE % (*SIZE, ECHARTS.read_text(), json.dumps(options(curves)))
    with tempfile.TemporaryDirectory() as folder, chromium(SIZE) as chrome:
        file = Path(folder) / "curves.html"
        file.write_text(page)
        open_page(chrome, file.as_uri())
        chrome.save_screenshot(str(PICTURE))
    with Image.open(PICTURE) as seen:
        seen.convert("RGB").quantize(128).save(PICTURE, optimize=True)


def curve(run_dir: Path) -> list[tuple[float, bool]]:
    """Of each round: CoT accuracy of its candidate in percent, and whether it was accepted."""
    store = open_store(run_dir, read_only=True)
    rows = [row for row in log_rows(store) if row["accuracy"]["cot"] is not None]
    store.close()
    return [(100 * row["accuracy"]["cot"]["accuracy"], row["decision"] != "rejected") for row in rows]


def label_shifts(curves: dict[str, list[tuple[float, bool]]], lowest: float) -> dict[str, float]:
    """By how many pixels each curve's label moves down, so that those that end in the same round can be told apart."""
    pixels = (SIZE[1] - TOP - BOTTOM) / (100 - lowest)
    found: dict[str, float] = {}
    last: dict[int, float] = {}
    for name, points in sorted(curves.items(), key=lambda each: -each[1][-1][0]):
        place = (100 - points[-1][0]) * pixels
        free = max(place, last.get(len(points), -LINE) + LINE)
        found[name], last[len(points)] = free - place, free
    return found


def options(curves: dict[str, list[tuple[float, bool]]]) -> dict[str, Any]:
    """The chart for ECharts."""
    arms = sorted({name.rsplit("-", 1)[0] for name in curves})
    rounds = max(len(points) for points in curves.values())
    lowest = 10 * int(min(value for points in curves.values() for value, _ in points) / 10)
    shifts = label_shifts({name: points for name, points in curves.items() if f"{LONG}-" not in name}, lowest)
    shifts |= {name: 0.0 for name in curves if f"{LONG}-" in name}
    series = []
    for name, points in curves.items():
        arm, seed = name.rsplit("-", 1)
        colour, across = COLOURS[arms.index(arm)], arm == LONG
        values = [points[0]] * rounds if across else points
        data = [{"value": round(value, 1), "symbol": "circle" if kept else "emptyCircle"} for value, kept in values]
        series.append(
            {
                "type": "line",
                "name": arm,
                "data": data,
                "showSymbol": not across,
                "symbolSize": 8,
                "color": colour,
                "lineStyle": {"type": "dashed" if across else "solid", "width": 2},
                "endLabel": {
                    "show": True,
                    "formatter": f"{arm} {seed}: {{c}}",
                    "color": colour,
                    "fontSize": 13,
                    "backgroundColor": "#fffd",
                    "padding": [1, 3],
                    "offset": [0, shifts[name]],
                },
            }
        )
    return {
        "animation": False,
        "textStyle": {"fontFamily": "sans-serif"},
        "grid": {"left": 60, "right": 230, "top": TOP, "bottom": BOTTOM},
        "xAxis": {
            "type": "category",
            "data": ["cold start", *(f"round {number}" for number in range(1, rounds))],
            "boundaryGap": False,
        },
        "yAxis": {"type": "value", "name": "held-out CoT accuracy, %", "min": lowest, "max": 100, "nameGap": 15},
        "series": series,
    }


if __name__ == "__main__":
    main()

"""Charts of the overview, each with the same figures as a table."""

import math
from collections.abc import Callable, Sequence

from loop.pages.drawing import (
    NONE,
    Chart,
    Row,
    bar,
    decimal,
    hollow,
    interval,
    line,
    make_chart,
    percent,
    point,
    ratio,
    round_name,
    rounded,
    share,
)
from loop.pages.escape import plain
from loop.pages.figures import BINS, OUTCOMES, Figures
from loop.reading.accuracy_log import decision_in_short

BASE_SHOWN_UP_TO = 2
"""The base model is drawn only beside at most so many other points: with more it would flatten their curve."""

COLOURS = tuple(f"var(--{name})" for name in ("one", "two", "three", "four", "five", "six", "seven", "eight"))
OUTCOME_COLOURS = dict(zip(OUTCOMES, ("one", "two", "five", "four", "eight"), strict=True))
PHASES = ("distil", "sample", "judge", "fallback", "pair", "update", "swap", "evaluate", "gate")
STYLE_NAMES = {"cot": "with reasoning", "direct": "direct answer"}


def charts(figures: Figures) -> list[Chart]:
    """Every chart of the overview, the most important first."""
    makers: tuple[Callable[[Figures], Chart], ...] = (
        _accuracy,
        _pass_rates,
        _outcomes,
        _lineage,
        _training,
        _lengths,
        _seconds,
        _memory,
        _faithfulness,
        _teacher,
    )
    return [make(figures) for make in makers]


def _accuracy(figures: Figures) -> Chart:
    base = next(
        (row["base_accuracy"] for row in figures.rounds[:1] if any((row["base_accuracy"] or {}).values())), None
    )
    places = [(round_name(row["round"]), row["policy"], row["accuracy"]) for row in figures.rounds]
    decisions = [decision_in_short(row) for row in figures.rounds]
    if base:
        places, decisions = [("base", 0, base), *places], [None, *decisions]
    series: list[Row] = []
    for style, colour in (("cot", COLOURS[0]), ("direct", COLOURS[1])):
        found = [accuracies.get(style) for _, _, accuracies in places]
        if any(found):
            series += _with_band(STYLE_NAMES[style], found, colour, decisions)
    gate = [figures.gate.get(policy) if policy is not None else None for _, policy, _ in places]
    if any(gate):
        dashed = line("gate's questions", [point(each, "accuracy") for each in gate], COLOURS[2])
        series.append({**dashed, "lineStyle": {"width": 1.5, "type": "dashed", "color": COLOURS[2]}, "symbolSize": 5})
    table = [
        (
            name,
            interval(accuracies.get("cot")),
            interval(accuracies.get("direct")),
            interval(checked),
            decision or NONE,
        )
        for (name, _, accuracies), checked, decision in zip(places, gate, decisions, strict=True)
    ]
    says = "Greedy answers of each round's candidate with 95% Wilson intervals. Hollow: rejected."
    skip = 1 if base and len(places) > BASE_SHOWN_UP_TO else 0
    return make_chart(
        "accuracy",
        "Held-out accuracy",
        f"{says} The base model is in the table only." if skip else says,
        [name for name, _, _ in places[skip:]],
        _skip_points(series, skip),
        ("round", "with reasoning", "direct answer", "gate's questions", "decision"),
        table,
        y={"name": "right, %", "scale": True},
        tip_rows=table[skip:],
    )


def _skip_points(series: list[Row], skip: int) -> list[Row]:
    return [{**each, "data": each["data"][skip:]} for each in series]


def _with_band(name: str, found: Sequence[Row | None], colour: str, decisions: Sequence[str | None]) -> list[Row]:
    """A line over its band: two stacked areas, an invisible lower bound and the width of the interval."""
    low = [point(each, "low") for each in found]
    spread = [None if each is None else round(100 * (each["high"] - each["low"]), 2) for each in found]
    hidden = {"type": "line", "stack": name, "symbol": "none", "silent": True, "lineStyle": {"opacity": 0}}
    points = [
        hollow(point(each, "accuracy")) if decision == "rejected" else {"value": point(each, "accuracy")}
        for each, decision in zip(found, decisions, strict=True)
    ]
    return [
        {**hidden, "name": f"{name}, low", "data": low},
        {**hidden, "name": f"{name}, band", "data": spread, "areaStyle": {"color": colour, "opacity": 0.16}},
        line(name, points, colour),
    ]


def _pass_rates(figures: Figures) -> Chart:
    numbers = sorted(figures.pass_rates)
    totals = {number: sum(figures.pass_rates[number]) for number in numbers}
    series = [
        bar(name, [share(figures.pass_rates[n][place], totals[n]) for n in numbers], f"var(--step-{place + 1})")
        for place, name in enumerate(BINS)
    ]
    table = [
        (
            round_name(number),
            f"{totals[number]:,}",
            *(percent(ratio(count, totals[number])) for count in figures.pass_rates[number]),
        )
        for number in numbers
    ]
    shown = "" if len(numbers) == len(figures.outcomes) else f" {len(numbers)} of {len(figures.outcomes)} rounds."
    return make_chart(
        "pass-rates",
        "From hard to easy",
        "Questions of a round by the share of their own samples that were right; unlabelled ones are left out." + shown,
        [round_name(number) for number in numbers],
        series if any(totals.values()) else [],
        ("round", "questions", *BINS),
        table,
        y={"name": "questions, %", "max": 100},
    )


def _outcomes(figures: Figures) -> Chart:
    numbers = sorted(figures.outcomes)
    totals = {number: sum(figures.outcomes[number].values()) for number in numbers}
    seen = [outcome for outcome in OUTCOMES if any(figures.outcomes[number][outcome] for number in numbers)]
    series = [
        bar(
            outcome.replace("_", " "),
            [share(figures.outcomes[n][outcome], totals[n]) for n in numbers],
            f"var(--{OUTCOME_COLOURS[outcome]})",
        )
        for outcome in seen
    ]
    table = [
        (
            round_name(n),
            f"{totals[n]:,}",
            *(percent(ratio(figures.outcomes[n][each], totals[n])) for each in OUTCOMES),
        )
        for n in numbers
    ]
    return make_chart(
        "outcomes",
        "Verdicts on samples",
        "What the judge said of a round's own samples.",
        [round_name(number) for number in numbers],
        series,
        ("round", "judged samples", *(each.replace("_", " ") for each in OUTCOMES)),
        table,
        y={"name": "samples, %", "max": 100},
    )


def _lineage(figures: Figures) -> Chart:
    """Policies as points connected to their parents; a rejected policy ends a branch.

    A shrunk policy has a second parent: the rejected candidate.
    """
    known = {row["policy"]: row for row in figures.policies}
    measured = {number: row["cot_accuracy"] for number, row in known.items() if row["cot_accuracy"] is not None}
    base = len(measured) > BASE_SHOWN_UP_TO and known[min(measured)]["parent"] is None
    heights = {number: height for number, height in measured.items() if not (base and number == min(measured))}
    best = None if figures.served is None else figures.served["policy"]
    points = [
        {
            "name": str(number),
            "value": [str(number), round(100 * height, 2)],
            "symbol": "emptyCircle" if known[number]["decision"] == "rejected" else "circle",
            "symbolSize": 16 if number == best else 11,
            "itemStyle": {"color": COLOURS[1] if known[number]["decision"] == "rejected" else COLOURS[0]},
        }
        for number, height in heights.items()
    ]
    links = [
        {
            "source": str(parent),
            "target": str(number),
            "lineStyle": {"type": "dashed" if row["decision"] == "rejected" or parent != row["parent"] else "solid"},
        }
        for number, row in known.items()
        for parent in (row["parent"], row["other_parent"])
        if number in heights and parent in heights
    ]
    graph = {
        "type": "graph",
        "coordinateSystem": "cartesian2d",
        "data": points,
        "links": links,
        "edgeSymbol": ["none", "arrow"],
        "edgeSymbolSize": 7,
        "lineStyle": {"color": "var(--muted)", "width": 1.5, "curveness": 0.12},
        "label": {"show": len(points) <= 30, "formatter": "{b}", "position": "top", "color": "var(--text)"},
    }
    table = [
        (
            str(number),
            *_origin(row),
            NONE if row["round"] is None else round_name(row["round"]),
            percent(row["cot_accuracy"]),
            percent(row["direct_accuracy"]),
            "best" if number == best else row["decision"] or NONE,
            str(row["sha256"])[:12] or NONE,
        )
        for number, row in known.items()
    ]
    return make_chart(
        "lineage",
        "Lineage of policies",
        "Each policy, joined to its parents. Hollow: rejected. Large: the best by the gate's questions."
        + (" The base model is in the table only." if base else ""),
        [str(number) for number in heights],
        [graph] if points else [],
        ("policy", "parent", "made by", "round", "with reasoning", "direct answer", "decision", "weights' sha256"),
        table,
        y={"name": "right with reasoning, %", "scale": True},
        x_name="policy",
        tip_rows=[row for row, number in zip(table, known, strict=True) if number in heights],
    )


def _origin(row: Row) -> tuple[str, str]:
    """A policy's parents, and how it was made from them."""
    if row["alpha"] is not None:
        return f"{row['parent']}, {row['other_parent']}", f"{row['made_by']} {row['alpha']:g}"
    return NONE if row["parent"] is None else str(row["parent"]), str(row["made_by"])


def _training(figures: Figures) -> Chart:
    rows = [row for row in figures.rounds if row["training_loss"] is not None]
    metrics = [figures.training.get(row["round"], {}) for row in rows]
    margins = [rounded(each.get("rewards/margins")) for each in metrics]
    series = [line("mean loss", [rounded(row["training_loss"]) for row in rows], COLOURS[0])]
    if any(each is not None for each in margins):
        series.append({**line("reward margin", margins, COLOURS[1]), "yAxisIndex": 1})
    table = [
        (
            round_name(row["round"]),
            f"{row['training_items']:,}",
            f"{row['training_loss']:.4f}",
            decimal(each.get("rewards/margins")),
            percent(each.get("rewards/accuracies")),
            f"{row['pairs']:,}",
        )
        for row, each in zip(rows, metrics, strict=True)
    ]
    return make_chart(
        "training",
        "Loss and margins",
        "Mean training loss of each update; reward margin of chosen over rejected chains at its last log entry.",
        [round_name(row["round"]) for row in rows],
        series if rows else [],
        ("round", "items", "mean loss", "reward margin", "pairs ranked right", "pairs"),
        table,
        y={"name": "loss, nats", "scale": True},
        second={"name": "margin, nats", "scale": True, "splitLine": {"show": False}} if len(series) > 1 else None,
    )


def _lengths(figures: Figures) -> Chart:
    names = [round_name(row["round"]) for row in figures.rounds]
    sampled = [figures.tokens.get(row["round"]) for row in figures.rounds]
    held_out = [(row["accuracy"]["cot"] or {}).get("tokens") for row in figures.rounds]
    series = [
        line(name, [rounded(each, 2) for each in values], colour)
        for name, values, colour in (("sampled", sampled, COLOURS[0]), ("held out, greedy", held_out, COLOURS[1]))
        if any(each is not None for each in values)
    ]
    return make_chart(
        "lengths",
        "Length of chains",
        "Mean tokens of a chain of thought.",
        names,
        series,
        ("round", "sampled, tokens", "held out, tokens"),
        [(name, decimal(a, 1), decimal(b, 1)) for name, a, b in zip(names, sampled, held_out, strict=True)],
        y={"name": "tokens", "scale": True},
    )


def _seconds(figures: Figures) -> Chart:
    rows = [row for row in figures.rounds if row["seconds"]]
    seen = [phase for phase in PHASES if any(row["seconds"].get(phase) for row in rows)]
    series = [
        bar(phase, [rounded(row["seconds"].get(phase), 1) for row in rows], COLOURS[place % len(COLOURS)])
        for place, phase in enumerate(seen)
    ]
    table = [
        (
            round_name(row["round"]),
            *(decimal(row["seconds"].get(phase), 1) for phase in seen),
            decimal(sum(row["seconds"].values()), 1),
        )
        for row in rows
    ]
    return make_chart(
        "seconds",
        "Where the time went",
        "Seconds of each phase, all sessions together.",
        [round_name(row["round"]) for row in rows],
        series,
        ("round", *seen, "all"),
        table,
        y={"name": "seconds"},
    )


def _memory(figures: Figures) -> Chart:
    """Host memory of each phase beside its plan, if it has one, and memory of the card, if there is one."""
    rows = [row for row in figures.rounds if any(each["peak_host"] is not None for each in row["memory"].values())]
    seen = [phase for phase in PHASES if any(phase in row["memory"] for row in rows)]

    def gib(row: Row, phase: str, figure: str) -> float | None:
        size = row["memory"].get(phase, {}).get(figure)
        return None if size is None else rounded(size / 2**30, 2)

    def cell(row: Row, phase: str) -> str:
        pairs = [
            (gib(row, phase, f"peak_{place}"), gib(row, phase, f"planned_{place}"), name)
            for place, name in (("host", ""), ("card", " on the card"))
        ]
        return ", ".join(f"{decimal(a, 2)} of {decimal(b, 2)}{name}" for a, b, name in pairs if a is not None) or NONE

    return make_chart(
        "memory",
        "Memory",
        "Most memory of each phase in GiB, above that of the process before its first model. The table has the plan.",
        [round_name(row["round"]) for row in rows],
        [
            line(phase, [gib(row, phase, "peak_host") for row in rows], COLOURS[place % len(COLOURS)])
            for place, phase in enumerate(seen)
        ],
        ("round", *(f"{phase}, measured of planned" for phase in seen)),
        [(round_name(row["round"]), *(cell(row, phase) for phase in seen)) for row in rows],
        y={"name": "GiB"},
    )


def _faithfulness(figures: Figures) -> Chart:
    faithful = [(row["accuracy"]["cot"] or {}).get("faithful") for row in figures.rounds]
    known = [(row, share) for row, share in zip(figures.rounds, faithful, strict=True) if share is not None]
    return make_chart(
        "faithfulness",
        "Faithful chains",
        "Share of held-out chains whose own statements are true of the image, where the source can check them.",
        [round_name(row["round"]) for row, _ in known],
        [line("faithful", [round(100 * share, 2) for _, share in known], COLOURS[0])] if known else [],
        ("round", "faithful", "right with reasoning"),
        [(round_name(row["round"]), percent(share), interval(row["accuracy"]["cot"])) for row, share in known],
        y={"name": "chains, %", "scale": True},
    )


def _teacher(figures: Figures) -> Chart:
    priced = any(row["cost_usd"] for row in figures.teacher)
    numbers = sorted({row["round"] for row in figures.teacher})
    purposes = list(dict.fromkeys(row["purpose"] for row in figures.teacher))
    key = "cost_usd" if priced else "calls"

    def total(number: int, purpose: str) -> float:
        of = (row for row in figures.teacher if (row["round"], row["purpose"]) == (number, purpose))
        return round(math.fsum(row[key] or 0 for row in of), 4)

    series = [
        bar(purpose.replace("_", " "), [total(number, purpose) for number in numbers], COLOURS[place % len(COLOURS)])
        for place, purpose in enumerate(purposes)
    ]
    table = [
        (
            round_name(row["round"]),
            plain(row["purpose"]).replace("_", " "),
            plain(row["model"]),
            f"{row['calls']:,}",
            f"{row['kept'] or 0:,}",
            f"{row['prompt_tokens']:,}",
            f"{row['completion_tokens']:,}",
            NONE if row["cost_usd"] is None else f"{row['cost_usd']:.4f}",
        )
        for row in figures.teacher
    ]
    return make_chart(
        "teacher",
        "The teacher",
        "US dollars per round, by purpose."
        if priced
        else "Requests per round, by purpose; the store has no price for them.",
        [round_name(number) for number in numbers],
        series,
        ("round", "purpose", "model", "calls", "kept", "prompt tokens", "answer tokens", "US $"),
        table,
        y={"name": "US $" if priced else "requests"},
        tip_rows=[
            (round_name(number), *(f"{total(number, purpose):,g}" for purpose in purposes)) for number in numbers
        ],
        tip_columns=("round", *purposes),
    )

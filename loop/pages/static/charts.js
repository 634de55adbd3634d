// Draws the charts of the page from the JSON beside them, in the style sheet's colours.
"use strict";
(() => {
  const drawn = new Map();
  const read = () => JSON.parse(document.getElementById("charts").textContent);

  function coloured(value, style) {
    if (typeof value === "string") return value.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, style)]));
    return value;
  }

  function withStyle(chart) {
    const axis = {
      nameTextStyle: { color: "var(--muted)" }, axisLabel: { color: "var(--muted)", hideOverlap: true },
      axisLine: { lineStyle: { color: "var(--line)" } }, splitLine: { lineStyle: { color: "var(--line)" } }, axisTick: { show: false },
    };
    const many = chart.options.xAxis.data.length > 60;
    return {
      ...chart.options, animation: false, textStyle: { fontFamily: "inherit", color: "var(--text)" },
      grid: { left: 8, right: 16, top: 56, bottom: many ? 62 : 26, containLabel: true },
      legend: { ...chart.options.legend, type: "scroll", top: 4, left: 0, itemWidth: 14, itemHeight: 9, textStyle: { color: "var(--text)", lineHeight: 18 }, pageTextStyle: { color: "var(--muted)" }, pageIconColor: "var(--accent)" },
      xAxis: { ...axis, splitLine: { show: false }, nameLocation: "middle", nameGap: 26, ...chart.options.xAxis },
      yAxis: chart.options.yAxis.map((each) => ({ ...axis, nameLocation: "end", nameGap: 12, ...each, nameTextStyle: { ...axis.nameTextStyle, align: each === chart.options.yAxis[0] ? "left" : "right" } })),
      dataZoom: many ? [{ type: "slider", height: 18, bottom: 4, borderColor: "var(--line)", textStyle: { color: "var(--muted)" } }] : [],
      tooltip: {
        trigger: chart.options.series.some((each) => each.type === "graph") ? "item" : "axis", renderMode: "richText", confine: true,
        backgroundColor: "var(--card)", borderColor: "var(--line)", textStyle: { color: "var(--text)", fontSize: 13 }, axisPointer: { lineStyle: { color: "var(--muted)" } },
        formatter: (points) => points.dataType === "edge" ? "" : chart.tips[(Array.isArray(points) ? points[0] : points).dataIndex] || "",
      },
    };
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const font = getComputedStyle(document.body).fontFamily;
    for (const chart of read()) {
      const box = document.getElementById(`chart-${chart.key}`);
      if (!box || !chart.options) continue;
      if (!drawn.has(box)) {
        drawn.set(box, echarts.init(box, null, { renderer: "canvas" }));
        watch(box);
      }
      const options = coloured(withStyle(chart), style);
      options.textStyle.fontFamily = font;
      drawn.get(box).setOption(options, { notMerge: true });
    }
  }

  function watch(box) {
    let place = -1;
    new ResizeObserver(() => drawn.get(box).resize()).observe(box);
    box.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const chart = read().find((each) => box.id === `chart-${each.key}`);
      if (!step || !chart) return;
      event.preventDefault();
      place = Math.min(chart.tips.length - 1, Math.max(0, place + step));
      const line = chart.options.series.length - 1;
      drawn.get(box).dispatchAction({ type: "showTip", seriesIndex: line, dataIndex: place });
      box.setAttribute("aria-description", chart.tips[place]);
    });
    box.addEventListener("blur", () => { place = -1; drawn.get(box).dispatchAction({ type: "hideTip" }); });
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.addEventListener("figures", draw);
  draw();
})();

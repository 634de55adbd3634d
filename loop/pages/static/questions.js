// The report's list of questions: searched, filtered, sorted and paged here, unpacked as it is looked at.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("questions-index").textContent);
  const form = document.querySelector("form.filter");
  const body = document.querySelector("table.questions tbody");
  const blank = document.getElementById("row").content.firstElementChild;
  const dialog = document.querySelector("dialog");
  const size = 50;
  const parts = new Map();
  let found = [];
  let page = 0;
  let turn = 0;

  const asked = () => new URLSearchParams(location.hash.startsWith("#questions?") ? location.hash.slice(11) : "");

  function state() {
    const from = asked();
    const set = data.sets[from.get("set")] ? from.get("set") : data.default.set;
    const side = (key) => (data.sides.includes(from.get(key)) ? from.get(key) : data.default[key]);
    return { set, first: side("first"), second: side("second"), q: from.get("q") || "", show: from.get("show") || "all",
      order: from.get("order") || "id", descending: from.get("descending") === "1", open: from.get("open") };
  }

  function go(change) {
    const all = { ...state(), ...change };
    const kept = Object.entries(all).filter(([, value]) => value).map(([key, value]) => [key, value === true ? "1" : value]);
    return `#questions?${new URLSearchParams(kept)}`;
  }

  const share = (tally) => (tally && tally[1] ? tally[0] / tally[1] : null);

  const tests = {
    all: () => true,
    lost: (one, two) => one !== null && two !== null && two < one,
    gained: (one, two) => one !== null && two !== null && two > one,
    none: (one, two) => two === 0,
    some: (one, two) => two !== null && two > 0 && two < 1,
    every: (one, two) => two === 1,
    unparsable: (one, two, row, second) => (row.unparsable || []).includes(second),
    truncated: (one, two, row, second) => (row.truncated || []).includes(second),
    suspect: (one, two, row) => row.suspect,
  };

  function select(now) {
    const words = now.q.toLowerCase();
    const test = tests[now.show] || tests.all;
    const value = { id: () => 0, first: (one) => one, second: (one, two) => two, change: (one, two) => (one === null || two === null ? null : two - one) }[now.order] || (() => 0);
    const sign = now.descending ? -1 : 1;
    const rows = [];
    for (const row of data.sets[now.set]) {
      if (words && !row.lower.includes(words)) continue;
      const tally = row.rounds[now.second];
      if (!tally) continue;
      const one = share(row.rounds[now.first]);
      const two = share(tally);
      if (!test(one, two, row, now.second)) continue;
      const at = value(one, two);
      rows.push([at === null ? Infinity : sign * at, row]);
    }
    const numbers = now.order === "id" ? sign : 1;
    return rows.sort((a, b) => a[0] - b[0] || numbers * (a[1].id - b[1].id)).map(([, row]) => row);
  }

  async function part(number) {
    if (!parts.has(number)) {
      const packed = Uint8Array.from(atob(document.getElementById(`part-${number}`).textContent), (each) => each.charCodeAt(0));
      const text = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      parts.set(number, text.then(JSON.parse));
    }
    return parts.get(number);
  }

  function putTally(cell, tally) {
    if (!tally || !tally[1]) { cell.textContent = "-"; return; }
    if (tally[1] === 1) {
      const badge = document.createElement("span");
      badge.className = `badge ${tally[0] ? "right" : "wrong"}`;
      badge.textContent = tally[0] ? "right" : "wrong";
      cell.replaceChildren(badge);
      return;
    }
    const bar = blank.querySelector(".tally").cloneNode(true);
    bar.querySelector("rect").setAttribute("width", 44 * tally[0] / tally[1]);
    bar.querySelector("span").textContent = `${tally[0]}/${tally[1]}`;
    cell.replaceChildren(bar);
  }

  function line(row, now) {
    const made = blank.cloneNode(true);
    const cell = (name) => made.querySelector(`[data-cell=${name}]`);
    const link = cell("id").querySelector("a");
    link.textContent = row.id;
    link.href = go({ open: row.id });
    link.setAttribute("aria-label", `question ${row.id}`);
    cell("text").querySelector("bdi").textContent = row.text;
    cell("kind").textContent = row.kind || "";
    cell("suspect").hidden = !row.suspect;
    cell("answers").textContent = row.answers;
    putTally(cell("first"), row.rounds[now.first]);
    putTally(cell("second"), row.rounds[now.second]);
    const one = share(row.rounds[now.first]);
    const two = share(row.rounds[now.second]);
    cell("change").textContent = one === null || two === null ? "-" : `${two < one ? "\u2212" : two > one ? "+" : ""}${Math.abs(100 * (two - one)).toFixed(0)}`;
    const picture = made.querySelector("img");
    if (row.picture) part(row.part).then((part) => { picture.src = part[row.id].picture; });
    else picture.remove();
    return made;
  }

  function showPage(now) {
    const pages = Math.max(1, Math.ceil(found.length / size));
    page = Math.min(page, pages - 1);
    body.replaceChildren(...found.slice(page * size, (page + 1) * size).map((row) => line(row, now)));
    const from = found.length ? page * size + 1 : 0;
    document.getElementById("where").textContent = `${from.toLocaleString("en")} to ${Math.min(found.length, (page + 1) * size).toLocaleString("en")} of ${found.length.toLocaleString("en")} questions`;
    document.getElementById("previous").disabled = page === 0;
    document.getElementById("next").disabled = page >= pages - 1;
  }

  function heads(now) {
    for (const head of document.querySelectorAll("table.questions th[data-order]")) {
      const mine = head.dataset.order === now.order;
      head.setAttribute("aria-sort", mine ? (now.descending ? "descending" : "ascending") : "none");
      head.querySelector("a").href = go({ order: head.dataset.order, descending: mine && !now.descending, open: "" });
    }
    for (const key of ["first", "second"]) {
      document.querySelector(`th[data-order=${key}] a`).textContent = data.names[now[key]];
    }
  }

  async function open(now) {
    const row = now.open && data.sets[now.set].find((each) => String(each.id) === now.open);
    if (!row) { if (dialog.open) dialog.close(); return; }
    const mine = ++turn;
    const { html } = (await part(row.part))[row.id];
    if (mine !== turn) return;
    dialog.querySelector("h2").textContent = `Question ${row.id}`;
    const inside = dialog.querySelector(".body");
    inside.innerHTML = html;
    const sides = inside.querySelector(".sides");
    const sections = Object.fromEntries([...sides.children].map((each) => [each.dataset.side, each]));
    const missing = (side) => {
      const made = document.createElement("section");
      made.className = "side";
      made.append(Object.assign(document.createElement("h3"), { textContent: data.names[side] }), Object.assign(document.createElement("p"), { className: "note", textContent: "Nothing of this round is kept here." }));
      return made;
    };
    sides.replaceChildren(...[...new Set([now.first, now.second])].map((side) => sections[side] || missing(side)));
    const place = found.indexOf(row);
    for (const [id, step] of [["before", -1], ["after", 1]]) {
      const button = document.getElementById(id);
      const other = place < 0 ? undefined : found[place + step];
      button.disabled = !other;
      button.onclick = () => { location.hash = go({ open: other.id }); };
    }
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  let last = "";
  function show() {
    const now = state();
    const key = JSON.stringify({ ...now, open: null });
    if (key !== last) {
      last = key;
      page = 0;
      for (const name of ["set", "first", "second", "show", "q"]) form.elements[name].value = now[name];
      found = select(now);
      heads(now);
      showPage(now);
      if (location.hash.startsWith("#questions?") && !now.open) document.getElementById("questions").scrollIntoView();
    }
    open(now);
  }

  for (const rows of Object.values(data.sets)) for (const row of rows) row.lower = `${row.text}\n${row.answers}\n${row.kind || ""}`.toLowerCase();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = Object.fromEntries(["set", "first", "second", "show", "q"].map((name) => [name, form.elements[name].value]));
    location.hash = go({ ...wanted, open: "" });
  });
  form.addEventListener("change", () => form.requestSubmit());
  document.getElementById("previous").addEventListener("click", () => { page -= 1; showPage(state()); });
  document.getElementById("next").addEventListener("click", () => { page += 1; showPage(state()); });
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => { if (state().open) location.hash = go({ open: "" }); });
  addEventListener("hashchange", show);
  show();
})();

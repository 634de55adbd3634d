// Asks the server every few seconds for this page again and puts what has changed in place.
"use strict";
(() => {
  const every = 4000;
  let tag = "";

  async function refresh() {
    if (document.hidden) return;
    const note = document.getElementById("contact");
    try {
      const answer = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      note.hidden = answer.ok || answer.status === 304;
      if (!answer.ok) return;
      tag = answer.headers.get("ETag") || "";
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const charts = (page) => page.querySelectorAll(".chart").length;
      if (charts(fresh) !== charts(document)) {
        location.reload();
        return;
      }
      for (const old of document.querySelectorAll("[data-live]")) {
        const found = fresh.getElementById(old.id);
        if (!found || found.textContent === old.textContent) continue;
        old.replaceChildren(...found.childNodes);
        if (old.id === "charts") document.dispatchEvent(new Event("figures"));
      }
    } catch {
      note.hidden = false;
    }
  }
  setInterval(refresh, every);
})();

// The guided tour: nine stops through both views, which can be left and taken up again.

/**
 * `stops` are { title, text, at, set }: `at` selects what the stop is about, `set` brings the page
 * to where it can be seen.
 */
export function makeTour(element, stops) {
  let now = null;
  let reached = 0; // where it will be taken up
  let marked = null;

  function unmark() {
    marked?.classList.remove("toured");
    marked = null;
  }

  async function go(k) {
    const begun = now === null;
    now = reached = k;
    const { title, text, set } = stops[k];
    set?.();
    element("tour").hidden = false;
    element("tour-title").textContent = title;
    element("tour-text").innerHTML = text;
    element("tour-count").textContent = `Stop ${k + 1} of ${stops.length}`;
    element("tour-back").disabled = k === 0;
    element("tour-next").textContent = k === stops.length - 1 ? "Finish" : "Next";
    element("tour-open").textContent = "Leave the tour";
    document.documentElement.classList.add("touring");
    if (begun) element("tour").focus({ preventScroll: true });
    
    await new Promise(requestAnimationFrame); // until what was set can be seen
    if (now === k) point();
  }

  /** Outline what the stop is about, and bring it above the card. */
  function point() {
    unmark();
    const { at } = stops[now];
    marked = at && document.querySelector(at);
    if (!marked) return;
    marked.classList.add("toured");
    const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    marked.scrollIntoView({ behavior: smooth ? "smooth" : "auto", block: "nearest" });
  }

  function leave() {
    if (now === null) return false;
    if (now === stops.length - 1) reached = 0;
    now = null;
    unmark();
    element("tour").hidden = true;
    document.documentElement.classList.remove("touring");
    element("tour-open").textContent = reached > 0 ? `Go on with the tour: ${reached + 1} of ${stops.length}` : "Take the tour";
    element("tour-open").focus({ preventScroll: true });
    
    return true;
  }

  element("tour-open").addEventListener("click", () => (now === null ? go(reached) : leave()));
  element("tour-close").addEventListener("click", leave);
  element("tour-back").addEventListener("click", () => go(now - 1));
  element("tour-next").addEventListener("click", () => (now + 1 < stops.length ? go(now + 1) : leave()));

  return { go, leave, now: () => now, count: stops.length };
}

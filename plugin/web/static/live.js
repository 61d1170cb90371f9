// The region of a page that stays fresh. A module of its own, imported under one address only: it must exist once.
export const region = () => document.querySelector("[data-live]");

const FOCUSABLE = "a[href], button, summary, [tabindex]";
const SCROLLED = ".table, .talk-log";

export function follow() {
  const log = document.querySelector("[data-follow] .talk-log");
  if (log) log.scrollTop = log.scrollHeight;
}

const atBottom = (area) => area.scrollHeight - area.scrollTop - area.clientHeight < 40;

// What a person was doing in `old` goes on in `fresh`: focus, and where they have scrolled to.
function replace(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const key = (element) => element.dataset.control ?? element.parentElement.dataset.fold ?? element.getAttribute("href") ?? (element.dataset.open && `${element.dataset.open} ${element.dataset.row ?? ""}`);
  const place = focused && [...old.querySelectorAll(FOCUSABLE)].indexOf(focused);
  const areas = [...old.querySelectorAll(SCROLLED)].map((area) => ({ left: area.scrollLeft, top: area.scrollTop, end: atBottom(area) }));
  old.replaceWith(document.adoptNode(fresh));
  fresh.querySelectorAll(SCROLLED).forEach((area, i) => {
    if (!areas[i]) return;
    area.scrollLeft = areas[i].left;
    area.scrollTop = area.closest("[data-follow]") && areas[i].end ? area.scrollHeight : areas[i].top;
  });
  if (focused) {
    const candidates = [...fresh.querySelectorAll(FOCUSABLE)];
    const same = key(focused) && candidates.find((element) => key(element) === key(focused));
    (same || candidates[place])?.focus({ preventScroll: true });
  }
}

// The page is asked for again and its live region put in place of ours. The server has escaped everything in it.
export async function refresh() {
  const old = region();
  if (!old) return;
  const response = await fetch(location.href, { headers: { "X-Vamos-Background": "1" }, credentials: "same-origin" });
  if (response.redirected) return location.assign(response.url);
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("[data-live]");
  if (!fresh) return;
  for (const fold of old.querySelectorAll("details[open][data-fold]")) fresh.querySelector(`[data-fold="${fold.dataset.fold}"]`)?.setAttribute("open", "");
  if (fresh.isEqualNode(old)) return;
  // Nothing moves under a person's hands.
  if (old.querySelector("dialog[open]")) return;
  if (old.contains(document.activeElement) && document.activeElement.matches("select, input, textarea")) return;
  replace(old, fresh);
}

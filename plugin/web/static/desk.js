// What every page does: log out, filters that submit themselves, regions that stay fresh.
import { call } from "./api.js";

document.querySelector("[data-logout]")?.addEventListener("click", async () => {
  try {
    await call("DELETE", "/session");
  } finally {
    location.assign("/desk/login");
  }
});

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-autosubmit]");
  if (!form) return;
  for (const field of form.elements) field.disabled = field.value === "";
  form.submit();
});

const region = () => document.querySelector("[data-live]");

function follow() {
  const log = document.querySelector("[data-follow] .talk-log");
  if (log) log.scrollTop = log.scrollHeight;
}

// The page is asked for again and its live region put in place of ours. The server has escaped everything in it.
export async function refresh() {
  const old = region();
  if (!old) return;
  const response = await fetch(location.href, { headers: { "X-Vamos-Background": "1" }, credentials: "same-origin" });
  if (response.redirected) return location.assign(response.url);
  if (!response.ok) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelector("[data-live]");
  if (!fresh || fresh.isEqualNode(old)) return;
  // Nothing moves under a person's hands.
  if (old.contains(document.activeElement) && document.activeElement.matches("select, input, textarea")) return;
  old.replaceWith(document.adoptNode(fresh));
  follow();
}

async function tick() {
  if (!document.hidden) await refresh().catch(() => {});
  const seconds = Number(region()?.dataset.live);
  if (seconds) setTimeout(tick, seconds * 1000);
}

if (region()) {
  follow();
  setTimeout(tick, Number(region().dataset.live) * 1000);
}

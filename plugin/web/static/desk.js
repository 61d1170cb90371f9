// What every page does: log out, filters that submit themselves, regions that stay fresh.
import { call } from "./api.js";
import { follow, refresh, region } from "./live.js";

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

// On a phone the menu is a strip: where one is must be in sight.
document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });

async function tick() {
  if (!document.hidden) await refresh().catch(() => {});
  const seconds = Number(region()?.dataset.live);
  if (seconds) setTimeout(tick, seconds * 1000);
}

if (region()) {
  follow();
  setTimeout(tick, Number(region().dataset.live) * 1000);
}

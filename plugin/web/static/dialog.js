// Dialogs with a form: opening, closing, and errors at the field they are about.
import { show } from "./api.js";

export function open(name) {
  const dialog = document.querySelector(`[data-dialog="${name}"]`);
  const form = dialog.querySelector("form");
  form.reset();
  clear(form);
  dialog.showModal();
  return dialog;
}

document.addEventListener("click", (event) => event.target.closest("[data-close]")?.closest("dialog").close());

export function clear(form) {
  for (const place of form.querySelectorAll("[data-problem], [data-error]")) show(place, "");
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
}

// Show an error where it belongs: at the element [data-field] of its field or of the next larger part, else in `place`.
export function fault(form, error, place = form.querySelector("[data-problem]")) {
  const parts = (error.field ?? "").split(".");
  for (; parts.length && parts[0]; parts.pop()) {
    const part = form.querySelector(`[data-field="${CSS.escape(parts.join("."))}"]`);
    if (!part) continue;
    for (let fold = part.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    const spot = part.querySelector("[data-error]") ?? part.appendChild(Object.assign(document.createElement("span"), { className: "problem field-problem" }));
    spot.dataset.error = "";
    spot.setAttribute("role", "alert");
    show(spot, error.message);
    const input = part.matches("input, select, textarea") ? part : part.querySelector("input, select, textarea");
    input?.setAttribute("aria-invalid", "true");
    input?.focus();
    spot.scrollIntoView({ block: "nearest" });
    return;
  }
  show(place, error.message);
}

// Run `work` once at a time; its error is shown in the form.
export async function attempt(form, work) {
  const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
  buttons.forEach((button) => (button.disabled = true));
  clear(form);
  try {
    await work();
  } catch (error) {
    fault(form, error);
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
}

// What a clock in `zone` shows at an instant, as if it were UTC.
function shown(zone, at) {
  const parts = new Intl.DateTimeFormat("en-CA", { timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" }).formatToParts(at);
  const { year, month, day, hour, minute, second } = Object.fromEntries(parts.map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

// A date and time on the wall in `zone` ("2026-11-23T09:30") as RFC 3339. The browser's own zone plays no part.
export function instant(wall, zone) {
  const wanted = Date.parse(`${wall}Z`);
  let at = wanted;
  for (let i = 0; i < 2; i++) at += wanted - shown(zone, new Date(at)); // twice: the first step may cross a change of clocks
  return new Date(at).toISOString();
}

// The wall clock in `zone` for a datetime-local field, `minutes` from now.
export function wall(zone, minutes = 0) {
  return new Date(shown(zone, new Date(Date.now() + minutes * 60_000))).toISOString().slice(0, 16);
}

// Opções de envio of a launch: when, in which hours, a first wave, and what happens to unknown outcomes.
import { instant, wall } from "./dialog.js";

const DAYS = ["seg", "ter", "qua", "qui", "sex", "sáb", "dom"];
const count = (n) => Number(n).toLocaleString("pt-BR");
const people = (n) => `${count(n)} ${Number(n) === 1 ? "pessoa" : "pessoas"}`;

export function sendingOptions(form) {
  const fields = form.elements;
  const { zone } = form.dataset;
  let accepted = 0;

  const later = () => fields.when.value === "at";
  const on = { when: later, hours_on: () => fields.hours_on.checked, wave_on: () => fields.wave_on.checked };
  const startAt = () => (later() && fields.start_at.value ? instant(fields.start_at.value, zone) : null);
  const startWords = () => new Date(startAt()).toLocaleString("pt-BR", { timeZone: zone, dateStyle: "short", timeStyle: "short" });
  const days = () => [...form.querySelectorAll("[name=days]:checked")].map((box) => Number(box.value));

  // Sensible values the first time something is switched on.
  function fill() {
    if (later()) {
      fields.start_at.min = wall(zone);
      fields.start_at.value ||= `${wall(zone, 24 * 60).slice(0, 10)}T09:00`;
    }
    if (on.wave_on()) fields.wave_size.value ||= Math.max(1, Math.min(100, Math.floor((accepted || 1000) / 10)));
  }

  function arrange() {
    for (const part of form.querySelectorAll("[data-needs]")) {
      const used = on[part.dataset.needs]();
      part.hidden = !used;
      for (const field of part.querySelectorAll("input")) field.disabled = !used;
    }
    fill();
    const words = [
      later() && startAt() ? `Em ${startWords()}` : "Agora",
      on.hours_on() ? `das ${fields.hours_from.value} às ${fields.hours_to.value}` : "a qualquer hora",
      on.wave_on() ? `antes a ${people(fields.wave_size.value)}` : "para todos de uma vez",
    ];
    form.querySelector("[data-options-words]").textContent = `${words.join(", ")}.`;
  }

  form.querySelector("[data-options]").addEventListener("input", arrange);
  arrange();

  return {
    later,
    start: () =>
      (later() ? `O disparo começa em ${startWords()} (horário de Brasília).` : "O disparo começa imediatamente.") +
      (on.hours_on() ? " Quem estiver fora do horário de envio espera até ele abrir." : ""),

    // Told of the chosen message's category and the file's accepted lines.
    about(category, rows) {
      accepted = rows ?? 0;
      const utility = category === "UTILITY";
      form.querySelector("[data-utility]").hidden = !utility;
      if (!utility) fields.on_unknown.value = "keep";
    },

    body: () => ({
      start_at: startAt(),
      hours: on.hours_on()
        ? { from: fields.hours_from.value, to: fields.hours_to.value === "00:00" ? "24:00" : fields.hours_to.value, days: days(), holidays: fields.holidays.checked }
        : null,
      first_wave: on.wave_on()
        ? {
            size: Number(fields.wave_size.value),
            wait_minutes: Number(fields.wave_wait.value),
            max_opt_outs: Number(fields.wave_opt_outs.value),
            max_failures: Number(fields.wave_failures.value),
          }
        : null,
      on_unknown: fields.on_unknown.value,
    }),

    // What is not as usual, for the last look before it is sent.
    facts() {
      const found = {};
      if (on.hours_on()) {
        const named = days().map((day) => DAYS[day - 1]).join(", ");
        found.Horário = `${fields.hours_from.value} às ${fields.hours_to.value}, ${named}${fields.holidays.checked ? ", também em feriados" : ", menos em feriados nacionais"}`;
      }
      if (on.wave_on()) found["Primeira leva"] = people(fields.wave_size.value);
      if (fields.on_unknown.value === "resend") found["Resposta perdida"] = "reenviar uma vez";
      return found;
    },
  };
}

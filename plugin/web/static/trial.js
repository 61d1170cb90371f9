// Testar antes: the message with one line's data to a few numbers, before the file's people get it.
import { call, make, newKey, show } from "./api.js";
import { clear, fault } from "./dialog.js";

const MOST = 5;

// `message`: what a launch would send. `look`: shows a line in the preview.
export function trialPanel(form, message, look) {
  const panel = form.querySelector("[data-trial]");
  const one = (selector) => panel.querySelector(selector);
  const { numbers, trial_row: choice } = form.elements;
  let rows = [];
  let key = newKey();

  const label = (row) => `linha ${row.line}${Object.keys(row.variables).length ? `: ${Object.values(row.variables).join(", ")}` : ""}`.slice(0, 80);

  choice.addEventListener("change", () => look(rows[choice.selectedIndex]));

  // Enter in a field of the panel must not send to everybody.
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input, select")) event.preventDefault();
  });

  one("[data-trial-send]").addEventListener("click", async (event) => {
    const button = event.target;
    const given = numbers.value.split(/[\n,;]+/).map((number) => number.trim()).filter(Boolean);
    clear(panel);
    const problem = one("[data-trial-problem]");
    show(problem, "");
    show(one("[data-trial-result]"), "");
    const wrong = !given.length ? "Escreva pelo menos um número." : given.length > MOST ? `O teste vai para até ${MOST} números; há ${given.length}.` : "";
    if (wrong) return fault(panel, { field: "numbers", message: wrong }, problem);
    button.disabled = true;
    try {
      const sent = await call("POST", "/broadcasts/test", { ...message(), row: Number(choice.value) || null, numbers: given }, { "Idempotency-Key": key });
      const link = make("a", { href: `/desk/broadcasts/${sent.id}`, target: "_blank", rel: "noopener", textContent: "Ver o resultado do teste" });
      const result = one("[data-trial-result]");
      result.replaceChildren(given.length === 1 ? "Teste a caminho de 1 número. " : `Teste a caminho de ${given.length} números. `, link);
      result.hidden = false;
      key = newKey();
    } catch (error) {
      fault(panel, error, problem);
      if (error.status < 500 && error.code !== "offline") key = newKey();
    } finally {
      button.disabled = false;
    }
  });

  return {
    // The lines a test can take its data from; null: there is no checked file.
    offer(found) {
      rows = found ?? [];
      panel.hidden = !rows.length;
      choice.replaceChildren(...rows.map((row) => make("option", { value: row.row, textContent: label(row) })));
      show(one("[data-trial-result]"), "");
    },
  };
}

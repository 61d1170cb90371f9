// Testar antes: the message with one line's data to a few numbers, before the file's people get it.
import { make, show } from "./api.js";
import { clear, fault } from "./dialog.js";
import { already, intention } from "./once.js";

const MOST = 5;

// `message`: what a launch would send. `look`: shows a line in the preview.
export function trialPanel(form, message, look) {
  const panel = form.querySelector("[data-trial]");
  const one = (selector) => panel.querySelector(selector);
  const { numbers, trial_row: choice } = form.elements;
  let rows = [];
  const testing = intention(`test ${form.dataset.operation}`);

  const label = (row) => `linha ${row.line}${Object.keys(row.variables).length ? `: ${Object.values(row.variables).join(", ")}` : ""}`.slice(0, 80);

  choice.addEventListener("change", () => look(rows[choice.selectedIndex]));

  const result = (id) => ({ href: `/desk/broadcasts/${id}`, textContent: "Ver o resultado do teste" });

  // To how many it goes, and who does not get it.
  function told({ queued, skipped }) {
    const going = queued ? `Teste a caminho de ${queued} ${queued === 1 ? "número" : "números"}.` : "O teste não vai para ninguém.";
    const gone = skipped.map((one) => one.address).join(", ");
    return gone ? `${going} ${gone} ${skipped.length === 1 ? "está descadastrado e não recebe" : "estão descadastrados e não recebem"}.` : going;
  }

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
      const sent = await testing.post("/broadcasts/test", { ...message(), row: Number(choice.value) || null, numbers: given });
      testing.another();
      already(one("[data-trial-result]"), told(sent), result(sent.id));
    } catch (error) {
      if (error.code === "already_launched") {
        const again = { textContent: "Enviar outro teste" };
        again.onclick = () => {
          testing.another();
          button.click();
        };
        return already(problem, "Um teste seu já foi enviado, como estava antes do que você mudou.", result(error.existing), again);
      }
      fault(panel, error, problem);
      if (testing.doubtful()) {
        const text = `${error.field ? "" : `${error.message} `}Um teste seu ficou sem resposta: pode já ter sido enviado. Enviar de novo não o repete.`;
        already(problem, text, { href: "/desk/broadcasts?tests=true", textContent: "Ver os testes" });
      }
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

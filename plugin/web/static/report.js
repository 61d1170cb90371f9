// What a person does to a broadcast. Buttons and dialogs are in the region that is replaced as it changes, so the page
// listens, not they.
import { call, toast } from "./api.js";
import { attempt, instant, open } from "./dialog.js";
import { refresh } from "./live.js";

const LEFT_OUT = {
  opted_out: ["está na lista de descadastros", "estão na lista de descadastros"],
  suppressed: ["pediu ao provedor para não receber", "pediram ao provedor para não receber"],
  too_soon: ["o provedor pede que não se insista ainda", "o provedor pede que não se insista ainda"],
  recent: ["é tão recente que o provedor ainda pode responder", "são tão recentes que o provedor ainda pode responder"],
  settled: ["não está mais como desconhecida", "não estão mais como desconhecidas"],
};

const count = (n) => n.toLocaleString("pt-BR");

// The body of each dialog's request, from what its form holds.
const BODIES = {
  cancel: () => undefined,
  schedule: (form) => ({ start_at: form.elements.when.value === "now" ? null : instant(form.elements.start_at.value, form.dataset.zone) }),
  // Always by name: a reason that came up meanwhile has been seen by nobody.
  retry: (form) => ({ codes: [...form.querySelectorAll("[name=codes]:checked")].map((box) => box.value) }),
  resend: (form) => ({ rows: form.dataset.row ? [Number(form.dataset.row)] : null, accept_risk: form.elements.accept_risk.checked }),
  reconcile: (form) => ({ rows: form.elements.rows.value, accept_risk: form.elements.accept_risk.checked }),
};

function told(answer) {
  if (answer?.rows !== undefined) return answer.rows === 1 ? "1 linha reconciliada." : `${count(answer.rows)} linhas reconciliadas.`;
  if (answer?.queued === undefined) return "";
  const back = answer.queued === 1 ? "1 mensagem voltou à fila." : `${count(answer.queued)} mensagens voltaram à fila.`;
  const out = Object.entries(answer.left_out ?? {}).map(([why, n]) => ` ${count(n)} ${n === 1 ? "ficou" : "ficaram"} de fora: ${LEFT_OUT[why]?.[n === 1 ? 0 : 1] ?? why}.`);
  return back + out.join("");
}

// What the form says by itself: how many a choice is about, and which field counts.
function adjust(form) {
  const boxes = [...form.querySelectorAll("[name=codes]")];
  if (boxes.length) {
    const chosen = boxes.filter((box) => box.checked).reduce((sum, box) => sum + Number(box.dataset.count), 0);
    const go = form.querySelector("[data-go]");
    go.disabled = !chosen;
    go.textContent = chosen ? `Reenviar ${count(chosen)}` : "Reenviar";
  }
  if (form.elements.when) form.elements.start_at.disabled = form.elements.when.value === "now";
}

document.addEventListener("click", async (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener) {
    const dialog = open(opener.dataset.open);
    const form = dialog.querySelector("form");
    const title = form.querySelector("[data-title]");
    if (title) {
      title.dataset.all ??= title.textContent;
      title.textContent = opener.dataset.of ?? title.dataset.all;
    }
    if (opener.dataset.row) form.dataset.row = opener.dataset.row;
    else delete form.dataset.row;
    adjust(form);
  }
  const button = event.target.closest("[data-control]");
  if (!button) return;
  button.disabled = true;
  try {
    await call("POST", `/broadcasts/${button.dataset.broadcast}/${button.dataset.control}`);
  } catch (error) {
    toast(error.message);
  }
  button.disabled = false;
  await refresh().catch(() => location.reload());
});

document.addEventListener("input", (event) => {
  const form = event.target.closest("dialog form");
  if (form) adjust(form);
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-post]");
  if (!form) return;
  event.preventDefault();
  attempt(form, async () => {
    const answer = await call("POST", form.dataset.post, BODIES[form.closest("dialog").dataset.dialog](form));
    form.closest("dialog").close();
    if (told(answer)) toast(told(answer));
    await refresh().catch(() => location.reload());
  });
});

// Descadastros: include one, import a list, undo. The list itself is rendered by the server.
import { call, make, toast } from "./api.js";
import { attempt, open } from "./dialog.js";
import { refresh } from "./live.js";

const count = (n) => n.toLocaleString("pt-BR");
const lines = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

const fresh = () => refresh().catch(() => location.reload());

const ACTS = {
  async add(form) {
    const { address, note } = form.elements;
    const answer = await call("POST", "/suppressions", { address: address.value, note: note.value });
    form.closest("dialog").close();
    toast(answer?.added === false ? "Este número já estava descadastrado." : "Número descadastrado.");
    await fresh();
  },
  async undo(form) {
    const { address } = form.dataset;
    const body = { address, reason: form.elements.reason.value };
    if (form.elements.accept_risk.checked) body.accept_risk = true;
    await call("POST", "/suppressions/undo", body);
    form.closest("dialog").close();
    toast(`${address} pode voltar a receber.`);
    await fresh();
  },
  async import(form) {
    const [file] = form.elements.file.files;
    if (file.size > Number(form.dataset.maxMb) * 1024 * 1024) {
      throw Object.assign(new Error(`O arquivo passa de ${form.dataset.maxMb} MB. Divida-o em partes.`), { field: "file" });
    }
    const answer = await call("POST", `/suppressions/import?${new URLSearchParams({ filename: file.name })}`, file);
    form.querySelector("[data-ask]").hidden = true;
    const place = form.querySelector("[data-result]");
    place.replaceChildren(...result(answer));
    place.hidden = false;
    place.querySelector("button").focus();
  },
};

function result(answer) {
  const refused = answer.rejected_count ?? answer.rejected.length;
  const figure = (label, n) => make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: count(n) }));
  const figures = make("dl", { className: "figures" });
  figures.append(figure(answer.added === 1 ? "incluído" : "incluídos", answer.added), figure("já estavam", answer.already), figure(refused === 1 ? "linha recusada" : "linhas recusadas", refused));
  const parts = [make("h3", { textContent: `${lines(answer.rows, "linha lida", "linhas lidas")}` }), figures];
  if (refused) parts.push(refusals(answer.rejected, refused));
  const close = make("button", { type: "button", className: "primary", textContent: "Concluir" });
  close.dataset.close = "";
  return [...parts, make("div", { className: "actions" }, close)];
}

function refusals(rows, total) {
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const [label, value] of Object.entries({ Linha: row.line, Valor: row.value, Motivo: [row.reason, row.remedy].filter(Boolean).join(" ") })) {
      const cell = make("td", { textContent: value });
      cell.dataset.label = label;
      if (label === "Motivo") cell.className = "any";
      line.append(cell);
    }
    body.append(line);
  }
  const head = make("thead", {}, make("tr", {}, ...["Linha", "Valor", "Motivo"].map((textContent) => make("th", { textContent }))));
  const title = total > rows.length ? `As primeiras ${rows.length} de ${count(total)} linhas recusadas` : "Linhas recusadas";
  return make("div", {}, make("h3", { textContent: title }), make("div", { className: "table scroll", tabIndex: 0 }, make("table", {}, head, body)));
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (!opener) return;
  const form = open(opener.dataset.open).querySelector("form");
  if (form.dataset.act === "import") {
    form.querySelector("[data-ask]").hidden = false;
    form.querySelector("[data-result]").hidden = true;
  }
  if (form.dataset.act === "undo") {
    const { address, warning } = opener.dataset;
    form.dataset.address = address;
    form.querySelector("[data-who]").textContent = address;
    form.querySelector("[data-provider]").hidden = !warning;
    form.querySelector("[data-warning]").textContent = warning;
    form.elements.accept_risk.required = Boolean(warning);
  }
});

// What was imported is in the list when the dialog is left, by whatever way.
document.querySelector('[data-dialog="import"]')?.addEventListener("close", fresh);

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-act]");
  if (!form) return;
  event.preventDefault();
  attempt(form, () => ACTS[form.dataset.act](form));
});

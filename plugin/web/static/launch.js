// Novo disparo: choose, upload, say what will happen, confirm, send.
import { call, csrf, make, problemOf, show, toast } from "./api.js";
import { clear, fault } from "./dialog.js";
import { already, intention } from "./once.js";
import { sendingOptions } from "./options.js";
import { trialPanel } from "./trial.js";

const form = document.querySelector("[data-launch]");
if (form) start();

function start() {
  const one = (selector) => form.querySelector(selector);
  const count = (n) => n.toLocaleString("pt-BR");
  const people = (n) => `${count(n)} ${n === 1 ? "pessoa" : "pessoas"}`;
  const operation = form.dataset.operation;
  const launching = intention(`launch ${operation}`);
  let file = null;
  let upload = null;
  let uploading = null;

  const template = () => form.querySelector("[name=template]:checked");
  const redirect = () => form.querySelector("[name=redirect]:checked").value;
  const chosenText = (select) => select.options[select.selectedIndex].text;
  const options = sendingOptions(form);
  const trial = trialPanel(form, message, (row) => previewRow(row));

  // ---------------------------------------------------------------- message
  one("[data-operation-choice]").addEventListener("change", (event) => {
    location.assign(`/desk/broadcasts/new?operation=${encodeURIComponent(event.target.value)}`);
  });
  one("[data-search]").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    for (const choice of form.querySelectorAll("[data-templates] .choice")) choice.hidden = !choice.dataset.text.includes(wanted);
  });
  one("[data-sync]").addEventListener("click", async (event) => {
    event.target.disabled = true;
    try {
      await call("POST", "/templates/sync");
      location.reload();
    } catch (error) {
      toast(error.message);
      event.target.disabled = false;
    }
  });

  function preview(values = {}) {
    const chosen = template();
    show(one("[data-no-preview]"), chosen ? "" : "Escolha uma mensagem para vê-la aqui.");
    for (const shown of form.querySelectorAll("[data-preview]")) {
      shown.hidden = shown.dataset.preview !== chosen?.value;
      if (shown.hidden) continue;
      const body = shown.querySelector("[data-body]");
      const parts = body.dataset.body.split(/(\{\{\s*\w+\s*\}\})/);
      body.replaceChildren(
        ...parts.map((part) => {
          const name = /^\{\{\s*(\w+)\s*\}\}$/.exec(part)?.[1];
          if (!name) return part;
          return make("span", { className: Object.hasOwn(values, name) ? "" : "slot", textContent: Object.hasOwn(values, name) ? values[name] : part });
        }),
      );
    }
  }

  form.addEventListener("change", (event) => {
    if (event.target.name === "template") {
      const names = template().dataset.parameters.split(",").filter(Boolean);
      one("[data-expected]").textContent = names.length
        ? `O arquivo CSV precisa da coluna telefone e, para esta mensagem, das colunas das variáveis: ${names.join(", ")}.`
        : "O arquivo CSV precisa da coluna telefone. Esta mensagem não tem variáveis.";
      preview();
      if (file) send(file);
    }
    if (event.target.name === "file" && event.target.files[0]) send(event.target.files[0]);
    explain();
  });

  // ---------------------------------------------------------------- contacts
  const drop = one("[data-drop]");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
    });
  }

  function send(chosen) {
    file = chosen;
    upload = null;
    uploading?.abort();
    const problem = one("[data-file-problem]");
    show(problem, "");
    one("[data-upload-result]").hidden = true;
    trial.offer(null);
    one("[data-file-name]").textContent = `${file.name} · ${Math.max(1, Math.round(file.size / 1024)).toLocaleString("pt-BR")} kB`;
    if (!template()) {
      show(problem, "Escolha antes a mensagem: o arquivo é conferido com as variáveis dela.");
      return ready();
    }
    if (file.size > Number(form.dataset.maxMb) * 1024 * 1024) {
      show(problem, `O arquivo passa de ${form.dataset.maxMb} MB. Divida-o em partes.`);
      return ready();
    }
    const query = new URLSearchParams({ operation, template: template().value, filename: file.name });
    const progress = one("[data-progress]");
    const request = (uploading = new XMLHttpRequest()); // fetch can't tell how much has left
    request.open("POST", `/desk/api/v1/uploads?${query}`);
    request.setRequestHeader("X-CSRF-Token", csrf());
    request.setRequestHeader("Content-Type", "text/csv");
    request.upload.onprogress = (event) => (progress.value = (100 * event.loaded) / event.total);
    request.upload.onload = () => progress.removeAttribute("value");
    request.onerror = () => show(problem, "O envio do arquivo foi interrompido. Tente de novo.");
    request.onload = () => {
      if (request.status !== 201) return show(problem, problemOf(request.responseText, request.status).message);
      upload = JSON.parse(request.responseText);
      result().catch((error) => show(problem, `As linhas conferidas não puderam ser mostradas. ${error.message}`));
    };
    request.onloadend = () => {
      progress.hidden = true;
      ready();
    };
    progress.value = 0;
    progress.hidden = false;
    request.send(file);
    ready();
  }

  async function result() {
    const shown = upload;
    const place = one("[data-upload-result]");
    const skipped = Object.values(upload.skipped).reduce((sum, n) => sum + n, 0);
    const figure = (label, n) => make("div", {}, make("dt", { textContent: label }), make("dd", { textContent: count(n) }));
    const figures = make("dl", { className: "figures" });
    figures.append(figure("linhas", upload.rows), figure("aceitas", upload.accepted), figure("recusadas", upload.rejected), figure("ignoradas", skipped));
    place.replaceChildren(make("h3", { textContent: "Resultado da conferência" }), figures);
    const reasons = { duplicate: "número repetido no arquivo", opted_out: "na lista de descadastros", blank: "linha em branco" };
    if (skipped) {
      const list = Object.entries(upload.skipped).map(([reason, n]) => `${count(n)} × ${Object.hasOwn(reasons, reason) ? reasons[reason] : reason}`);
      place.append(make("p", { className: "muted", textContent: `Ignoradas: ${list.join(", ")}.` }));
    }
    const { address, variables = {}, ignored = [] } = upload.columns;
    const read = [`telefone: “${address}”`, ...Object.entries(variables).map(([name, column]) => `{{${name}}}: “${column}”`)];
    if (ignored.length) read.push(`não usadas: ${ignored.join(", ")}`);
    place.append(make("p", { className: "muted small", textContent: `Colunas: ${read.join(" · ")}` }));
    place.hidden = false;
    if (upload.rejected) {
      const refused = await call("GET", `/uploads/${upload.id}/rows?state=rejected&limit=20`);
      if (shown === upload) place.append(refusals(refused.items));
    }
    if (upload.accepted) {
      const first = await call("GET", `/uploads/${upload.id}/rows?state=accepted&limit=50`);
      if (shown !== upload) return;
      previewRow(first.items[0]);
      trial.offer(first.items);
    }
  }

  function previewRow(row) {
    preview(row.variables);
    one("[data-preview-note]").textContent = `Como a pessoa da linha ${row.line} do arquivo vai receber.`;
  }

  function refusals(rows) {
    const body = make("tbody");
    for (const row of rows) {
      for (const error of row.errors) {
        const cells = { Linha: row.line, Coluna: error.column, Valor: error.value, Motivo: [error.reason, error.remedy].filter(Boolean).join(" ") };
        const line = make("tr");
        for (const [label, value] of Object.entries(cells)) {
          const cell = make("td", { textContent: value });
          cell.dataset.label = label;
          if (label === "Motivo") cell.className = "any";
          line.append(cell);
        }
        body.append(line);
      }
    }
    const head = make("thead", {}, make("tr", {}, ...["Linha", "Coluna", "Valor", "Motivo"].map((t) => make("th", { textContent: t }))));
    const title = upload.rejected > rows.length ? `As primeiras ${rows.length} de ${count(upload.rejected)} linhas recusadas` : "Linhas recusadas";
    const link = make("a", { className: "button", href: `/desk/api/v1/uploads/${upload.id}/rejected.csv`, textContent: "Baixar recusadas para corrigir (CSV)" });
    link.download = "";
    return make("div", {}, make("h3", { textContent: title }), make("div", { className: "table" }, make("table", {}, head, body)), link);
  }

  // ---------------------------------------------------------------- redirect
  function explain() {
    for (const part of form.querySelectorAll("[data-when]")) part.hidden = part.dataset.when !== redirect();
    const notes = [];
    const talk = template()?.dataset.talk;
    const kind = redirect();
    if (template()) {
      if (kind === "none") {
        notes.push([talk ? `Quem tocar em “${talk}” vai para a fila de push e depois para uma pessoa.` : "Quem responder começa do início do fluxo do bot.", ""]);
        if (talk && !form.dataset.pushQueue) notes.push(["Esta operação não tem fila de push: os atendimentos ficarão sem fila.", "warn"]);
      } else if (kind === "human") {
        const { queue, agent } = form.elements;
        const to = [queue.value && `a fila ${chosenText(queue)}`, agent.value && `o atendente ${chosenText(agent)}`].filter(Boolean);
        notes.push([`Quem ${talk ? `tocar em “${talk}”` : "responder"} vai para ${to.join(" e ") || "a fila de push"}.`, ""]);
        if (!talk) notes.push(["Esta mensagem não tem o botão “Vamos conversar”. Qualquer resposta digitada chamará uma pessoa.", "warn"]);
        if (/cobran/i.test(template().dataset.name) && queue.value && !/cobran/i.test(chosenText(queue))) notes.push(["A mensagem é de cobrança: a fila de cobrança costuma ser a melhor escolha.", "warn"]);
      } else {
        notes.push(["Quem responder recebe a notificação, e o bot continua com a resposta.", ""]);
      }
      notes.push(["Quem pedir para sair é descadastrado e não recebe mais nada.", ""]);
    }
    one("[data-notes]").replaceChildren(...notes.map(([textContent, className]) => make("li", { textContent, className })));
    ready();
  }

  // ---------------------------------------------------------------- send
  function ready() {
    options.about(template()?.dataset.category, upload?.accepted);
    const state = one("[data-ready]");
    const busy = uploading && uploading.readyState !== XMLHttpRequest.DONE && uploading.readyState !== XMLHttpRequest.UNSENT;
    if (busy) state.textContent = "Conferindo o arquivo…";
    else if (!template()) state.textContent = "Escolha a mensagem e envie o arquivo de contatos.";
    else if (!upload) state.textContent = "Envie o arquivo de contatos.";
    else if (!upload.accepted) state.textContent = "Nenhuma linha pode ser enviada. Corrija o arquivo e envie de novo.";
    else state.textContent = `Pronto para ${options.later() ? "agendar" : "enviar"} a ${people(upload.accepted)}.`;
    one("[data-send]").textContent = options.later() ? "Agendar" : "Enviar";
    one("[data-send]").disabled = busy || !template() || !upload?.accepted;
  }

  const dialog = one("[data-confirm]");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (one("[data-send]").disabled || dialog.open) return;
    const what = `${options.later() ? "Agendar" : "Enviar"} para ${people(upload.accepted)}`;
    one("[data-confirm-title]").textContent = `${what}?`;
    one("[data-really]").textContent = what;
    one("[data-confirm-start]").textContent = options.start();
    const names = { none: "Sem redirecionamento", human: "Humano", notification: "Notificações" };
    const facts = { Mensagem: template().dataset.name, Arquivo: upload.filename, Redirecionamento: names[redirect()] };
    if (redirect() === "human") {
      if (form.elements.queue.value) facts.Fila = chosenText(form.elements.queue);
      if (form.elements.agent.value) facts.Atendente = chosenText(form.elements.agent);
    }
    Object.assign(facts, options.facts());
    one("[data-confirm-facts]").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
    dialog.showModal();
  });
  one("[data-cancel]").addEventListener("click", () => dialog.close());
  one("[data-really]").addEventListener("click", async (event) => {
    event.target.disabled = true;
    clear(form);
    const problem = one("[data-launch-problem]");
    show(problem, "");
    try {
      const launched = await launching.post("/broadcasts", { ...message(), ...options.body() });
      location.assign(`/desk/broadcasts/${launched.id}`);
    } catch (error) {
      event.target.disabled = false;
      dialog.close();
      if (error.code === "already_launched") return launchedBefore(problem, error.existing);
      fault(form, error, problem);
      if (launching.doubtful()) doubt(problem, error);
    }
  });

  function launchedBefore(problem, id) {
    const text = "O disparo já foi criado, com as opções de antes: o que você mudou depois não vale para ele.";
    const again = { textContent: "Enviar outro" };
    again.onclick = () => {
      launching.another();
      show(problem, "");
      one("[data-send]").focus();
    };
    already(problem, text, { href: `/desk/broadcasts/${id}`, textContent: "Ver o disparo" }, again);
  }

  // The answer of this click or of an earlier one never came.
  function doubt(problem, error) {
    const text = `${error.field ? "" : `${error.message} `}Um envio seu ficou sem resposta: o disparo pode já ter sido criado. Enviar de novo não o repete.`;
    already(problem, text, { href: "/desk/broadcasts", textContent: "Ver os disparos" });
  }

  // What a launch and a test send have in common.
  function message() {
    const fields = form.elements;
    const human = redirect() === "human";
    return {
      operation,
      upload: upload.id,
      template: template().value,
      redirect: { kind: redirect(), queue: (human && fields.queue.value) || null, agent: (human && fields.agent.value) || null },
      free_text: fields.free_text.value,
      notify_text: fields.notify_text.value,
      notify_team: fields.notify_team.checked,
      window_hours: Number(fields.window_hours.value),
    };
  }

  // A field that is wrong must be seen: whatever is folded around it opens.
  form.addEventListener(
    "invalid",
    (event) => {
      for (let fold = event.target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    },
    true,
  );

  explain();
}

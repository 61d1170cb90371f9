// The phone page: a messenger for the sandbox's phones. Everything is put on the page as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  sending: "M12 6.5V12l3 2M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17",
  one: "m5 12.5 4.5 4.5L19 7",
  two: "m1.5 12.5 4.5 4.5L15.5 7M12.5 16l1 1L23 7",
  reply: "M10 6 4 12l6 6M4 12h9a7 7 0 0 1 7 7",
  warn: "M12 7v6M12 16.8v.2M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17",
};
const BUSINESS_SEES = { accepted: "aceita", sent: "enviada", delivered: "entregue", read: "lida" };
const PERSON_SEES = {
  accepted: ["sending", "Ainda não enviada"],
  sent: ["one", "Enviada; o bot ainda não confirmou"],
  delivered: ["two", "Entregue ao bot"],
  read: ["two", "Lida pela empresa"],
};

let current = "";      // number of the open chat, with +
let chat = null;       // what the server last said about it
let wallSize = 0;      // messages shown, to notice new ones

// ------------------------------------------------------------------ small things
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function icon(name, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  if (label) {
    const title = document.createElementNS(SVG, "title");
    title.textContent = label;
    svg.append(title);
    svg.setAttribute("role", "img");
  } else {
    svg.setAttribute("aria-hidden", "true");
  }
  return svg;
}

async function ask(path, method = "GET", body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(data.detail || `HTTP ${answer.status}`), { status: answer.status });
  return data;
}

const phonePath = (number, rest = "") => `/sandbox/phones/${encodeURIComponent(number)}${rest}`;

function pretty(number) {
  const brazil = /^\+55(\d\d)(\d{4,5})(\d{4})$/.exec(number);
  return brazil ? `+55 ${brazil[1]} ${brazil[2]}-${brazil[3]}` : number;
}

const initials = (name) => name.split(/\s+/).map((part) => part[0]).slice(0, 2).join("").toUpperCase();

function hue(number) {
  let sum = 0;
  for (const digit of number) sum = (sum * 31 + digit.charCodeAt(0)) % 997;
  return `hue-${sum % 8}`;
}

const clock = new Intl.DateTimeFormat("pt-BR", { hour: "2-digit", minute: "2-digit" });
const shortDay = new Intl.DateTimeFormat("pt-BR", { day: "2-digit", month: "2-digit" });
const longDay = new Intl.DateTimeFormat("pt-BR", { weekday: "long", day: "numeric", month: "long" });

function daysAgo(date) {
  const midnight = (one) => new Date(one.getFullYear(), one.getMonth(), one.getDate());
  return Math.round((midnight(new Date()) - midnight(date)) / 86400000);
}

function when(seconds) {
  const date = new Date(seconds * 1000);
  const ago = daysAgo(date);
  return ago === 0 ? clock.format(date) : ago === 1 ? "ontem" : shortDay.format(date);
}

function dayName(seconds) {
  const date = new Date(seconds * 1000);
  const ago = daysAgo(date);
  return ago === 0 ? "Hoje" : ago === 1 ? "Ontem" : longDay.format(date);
}

// *bold*, _italic_ and ~struck~ as messengers write them
const MARK = /(^|[\s(])([*_~])(?=\S)([^\n]*?\S)\2(?=$|[\s.,;:!?)])/gm;

function formatted(text) {
  const box = make("div", "text");
  let at = 0;
  for (const found of text.matchAll(MARK)) {
    box.append(text.slice(at, found.index) + found[1]);
    box.append(make({ "*": "strong", _: "em", "~": "s" }[found[2]], "", found[3]));
    at = found.index + found[0].length;
  }
  box.append(text.slice(at));
  return box;
}

function once(work, pause) {
  let planned = null;
  return () => {
    if (planned === null) planned = setTimeout(() => { planned = null; work(); }, pause);
  };
}

// ------------------------------------------------------------------ the list
async function loadList() {
  const wanted = $("search").value.trim();
  const { items, total } = await ask(`/sandbox/phones?limit=150&q=${encodeURIComponent(wanted)}`);
  const list = $("list");
  const focused = document.activeElement?.closest?.(".phone")?.dataset.number;
  list.replaceChildren(...items.map(listItem));
  if (focused) list.querySelector(`[data-number="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  const more = $("more");
  more.hidden = items.length > 0 && items.length === total;
  more.textContent = wanted && !items.length ? "Nenhum celular com esse nome ou número."
    : !total ? "Nenhum celular recebeu mensagem ainda."
    : `${items.length} de ${total.toLocaleString("pt-BR")} celulares${wanted ? " encontrados" : ", os mais recentes"}`;
  if (!total && !current) {
    $("blank-title").textContent = "Nenhuma mensagem ainda";
    $("blank-text").textContent = "Faça um disparo e veja as mensagens chegarem aqui, ou toque em + para escrever primeiro.";
  } else {
    $("blank-title").textContent = "Escolha um celular";
    $("blank-text").textContent = "As mensagens que o seu bot enviar chegam aqui. Toque nos botões ou escreva, como faria o cliente.";
  }
}

function listItem(phone) {
  const link = make("a", phone.unread && phone.number !== current ? "phone unread" : "phone");
  link.href = `#${phone.number}`;
  link.dataset.number = phone.number;
  if (phone.number === current) link.setAttribute("aria-current", "true");
  const last = phone.last;
  const avatar = make("span", `avatar ${hue(phone.number)}`, initials(phone.name));
  avatar.setAttribute("aria-hidden", "true");
  link.append(avatar, make("span", "name", phone.name));
  link.append(make("time", "", last ? when(last.at) : ""));
  const preview = last ? last.body.replace(MARK, "$1$3") : "";
  link.append(make("span", "preview", last?.author === "person" ? `Você: ${preview}` : preview));
  if (phone.unread && phone.number !== current) {
    const count = make("span", "count", phone.unread > 99 ? "99+" : String(phone.unread));
    count.setAttribute("aria-label", `${phone.unread} não lidas`);
    link.append(count);
  }
  return link;
}

function walkList(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...$("list").children];
  const at = links.indexOf(document.activeElement);
  const next = links[at + (event.key === "ArrowDown" ? 1 : -1)];
  if (next) { next.focus(); event.preventDefault(); }
  else if (at === 0) $("search").focus();
}

// ------------------------------------------------------------------ the chat
async function loadChat() {
  const number = current;
  if (!number) return;
  const fresh = await ask(phonePath(number));
  if (number !== current) return;
  chat = fresh;
  if (chat.number !== number) {        // the address had another form of the same number
    current = chat.number;
    history.replaceState(null, "", `#${current}`);
  }
  showChat();
  if (chat.unread) ask(phonePath(current, "/open"), "POST", {}).catch(showLost);
}

function showChat() {
  $("name").textContent = chat.name;
  $("number").textContent = pretty(chat.number);
  $("avatar").textContent = initials(chat.name);
  $("avatar").className = `avatar ${hue(chat.number)}`;
  document.title = `${chat.name} · Celulares de teste`;
  const preference = $("preference");
  preference.hidden = !chat.messages.length;
  $("preference-text").textContent = chat.stopped ? "Ofertas bloqueadas" : "Bloquear ofertas";
  preference.title = chat.stopped ? "Voltar a receber ofertas desta empresa" : "Parar de receber ofertas desta empresa";
  preference.setAttribute("aria-pressed", String(chat.stopped));

  const wall = $("messages");
  const atEnd = wall.scrollHeight - wall.scrollTop - wall.clientHeight < 80;
  const old = new Map([...wall.children].map((child) => [child.dataset.key, child]));
  const wanted = [];
  let day = "";
  if (!chat.messages.length) {
    const hint = make("div", "day", "Nenhuma mensagem ainda. Escreva a primeira.");
    hint.dataset.key = "hint";
    wanted.push(hint);
  }
  for (const message of chat.messages) {
    const name = dayName(message.at);
    if (name !== day) {
      day = name;
      const separator = old.get(`day ${name}`) || make("div", "day", name);
      separator.dataset.key = `day ${name}`;
      wanted.push(separator);
    }
    const state = `${message.status} ${message.tapped}`;
    const known = old.get(message.id);
    wanted.push(known && known.dataset.state === state ? known : bubble(message, state));
  }
  wanted.forEach((child, index) => {
    if (wall.children[index] !== child) wall.insertBefore(child, wall.children[index] || null);
  });
  while (wall.children.length > wanted.length) wall.lastChild.remove();

  const last = chat.messages.at(-1);
  const grown = chat.messages.length > wallSize;
  if (wallSize === 0 || atEnd || (grown && last?.author === "person")) toEnd();
  else if (grown) $("down").hidden = false;
  wallSize = chat.messages.length;
}

function bubble(message, state) {
  const box = make("article", `message ${message.author}`);
  box.dataset.key = message.id;
  box.dataset.state = state;
  box.setAttribute("aria-label", message.author === "person" ? "Você" : chat.business || "Empresa");
  const inner = make("div", "bubble");
  const quoted = message.context && chat.messages.find((one) => one.id === message.context);
  if (quoted) {
    const quote = make("button", "quote", quoted.header || quoted.body.split("\n")[0]);
    quote.type = "button";
    quote.title = "Ir para a mensagem";
    quote.addEventListener("click", () => jumpTo(quoted.id));
    inner.append(quote);
  }
  if (message.header) inner.append(make("h3", "", message.header));
  inner.append(formatted(message.body));
  if (message.footer) inner.append(make("p", "foot", message.footer));
  inner.append(meta(message));
  box.append(inner);
  if (message.status === "failed") box.classList.add("failed");
  if (message.buttons.length && message.status !== "failed") {
    const taps = make("div", "taps");
    taps.append(...message.buttons.map((button) => tapButton(message, button)));
    box.append(taps);
  }
  return box;
}

function meta(message) {
  const line = make("div", "meta");
  line.append(make("time", "", clock.format(new Date(message.at * 1000))));
  if (message.status === "failed") {
    line.append(icon("warn"), make("span", "", "não chegou a este celular"));
  } else if (message.author === "person") {
    const [name, label] = PERSON_SEES[message.status];
    const tick = icon(name, label);
    if (message.status === "read") tick.classList.add("read");
    line.append(tick);
  } else {
    const seen = make("span", "", `· ${BUSINESS_SEES[message.status]}`);
    seen.title = "O que a empresa sabe desta mensagem";
    line.append(seen);
  }
  return line;
}

function tapButton(message, button) {
  const tap = make("button", "tap");
  tap.type = "button";
  const tapped = message.tapped === button.index;
  tap.disabled = message.tapped !== null;
  if (tapped) tap.classList.add("tapped");
  tap.append(icon(tapped ? "one" : "reply"), make("span", "", button.text));
  tap.addEventListener("click", async () => {
    tap.disabled = true;
    await act(phonePath(current, "/tap"), { message: message.id, button: button.index });
    $("text").focus();
  });
  return tap;
}

function jumpTo(id) {
  const found = [...$("messages").children].find((child) => child.dataset.key === id);
  if (!found) return;
  found.scrollIntoView({ block: "center", behavior: "smooth" });
  found.classList.remove("flash");
  requestAnimationFrame(() => found.classList.add("flash"));
}

function toEnd() {
  const wall = $("messages");
  wall.scrollTop = wall.scrollHeight;
  $("down").hidden = true;
}

async function act(path, body) {
  $("problem").hidden = true;
  try {
    await ask(path, "POST", body);
    await Promise.all([loadChat(), loadList()]);
    return true;
  } catch (error) {
    $("problem").textContent = error.status ? `Não foi possível: ${error.message}.` : "O sandbox não responde. Ele ainda está rodando?";
    $("problem").hidden = false;
    return false;
  }
}

async function send(event) {
  event.preventDefault();
  const box = $("text");
  const text = box.value.trim();
  if (!text || !current) return;
  $("send").disabled = true;
  if (await act(phonePath(current, "/text"), { text })) box.value = "";
  grow();
  box.focus();
}

function grow() {
  const box = $("text");
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight + 2, 132)}px`;
  $("send").disabled = !box.value.trim();
}

// ------------------------------------------------------------------ which chat is open
function route() {
  const number = decodeURIComponent(location.hash.slice(1));
  current = /^\+\d{7,15}$/.test(number) ? number : "";
  chat = null;
  wallSize = 0;
  $("messages").replaceChildren();
  $("problem").hidden = $("down").hidden = true;
  document.body.classList.toggle("reading", Boolean(current));
  $("open").hidden = !current;
  $("blank").hidden = Boolean(current);
  document.title = "Celulares de teste";
  refresh();
  if (current && matchMedia("(min-width: 721px)").matches) $("text").focus();
}

function refresh() {
  Promise.all([loadList(), loadChat()]).catch(showLost);
}

// ------------------------------------------------------------------ live
function showLost() {
  $("live").dataset.state = "off";
  $("live-text").textContent = "sem conexão com o sandbox";
}

function listen() {
  const soonList = once(() => loadList().catch(showLost), 350);
  const source = new EventSource("/sandbox/events");
  source.onopen = () => {
    $("live").dataset.state = "on";
    $("live-text").textContent = "ao vivo";
    refresh();
  };
  source.onmessage = (event) => {
    const { phones } = JSON.parse(event.data);
    soonList();
    if (current && (!chat || phones.includes(chat.wa_id) || phones.length >= 500)) loadChat().catch(showLost);
  };
  source.onerror = showLost;   // the browser connects again by itself
}

// ------------------------------------------------------------------ a new phone
function openDialog() {
  $("dialog-number").value = "";
  $("dialog-hint").classList.remove("bad");
  $("dialog-hint").textContent = "O celular aparece na lista quando escrever a primeira mensagem.";
  $("dialog").showModal();
}

function chooseNumber(event) {
  let digits = $("dialog-number").value.replace(/[\s().-]/g, "");
  if (/^\d{10,11}$/.test(digits)) digits = `+55${digits}`;   // DDD and number, as Brazilians say it
  if (/^\d/.test(digits)) digits = `+${digits}`;
  if (!/^\+\d{7,15}$/.test(digits)) {
    event.preventDefault();
    $("dialog-hint").classList.add("bad");
    $("dialog-hint").textContent = "Escreva o número completo, por exemplo +55 31 99999-0001.";
    return;
  }
  location.hash = digits;
}

$("composer").addEventListener("submit", send);
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
});
$("search").addEventListener("input", once(() => loadList().catch(showLost), 150));
$("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown") { $("list").firstElementChild?.focus(); event.preventDefault(); }
});
$("list").addEventListener("keydown", walkList);
$("down").addEventListener("click", toEnd);
$("messages").addEventListener("scroll", () => {
  const wall = $("messages");
  if (wall.scrollHeight - wall.scrollTop - wall.clientHeight < 80) $("down").hidden = true;
});
$("preference").addEventListener("click", () => act(phonePath(current, "/preference"), { value: chat.stopped ? "resume" : "stop" }));
$("new").addEventListener("click", openDialog);
$("dialog-form").addEventListener("submit", chooseNumber);
$("dialog-cancel").addEventListener("click", () => $("dialog").close());
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName || "");
  if (event.key === "/" && !typing) { $("search").focus(); event.preventDefault(); }
  if (event.key === "Escape" && current && !$("dialog").open) location.hash = "";
});
window.addEventListener("hashchange", route);
route();
listen();

// Calls to our own API. Errors arrive as problem documents; people get Portuguese for the codes that every page can meet.
const TEXTS = {
  unauthenticated: "Usuário, senha ou link não conferem, ou a sessão acabou.",
  too_many_attempts: "Tentativas demais. Espere um pouco e tente de novo, ou peça um link de acesso.",
  forbidden: "Você não tem permissão para isso.",
  not_found: "Isto não existe mais, ou não é da sua operação.",
  too_large: "O arquivo é maior do que o permitido.",
  too_slow: "O envio demorou demais. Tente numa conexão melhor.",
  unsupported_media_type: "Este tipo de arquivo não é aceito. Envie um CSV.",
  provider: "O provedor do canal recusou o pedido.",
  internal: "Algo deu errado do nosso lado. Tente de novo em instantes.",
  unavailable: "O servidor está ocupado. Tente de novo em instantes.",
};

export class Problem extends Error {
  constructor(body) {
    super(Object.hasOwn(TEXTS, body.code) ? TEXTS[body.code] : [body.detail, body.remedy].filter(Boolean).join(" "));
    Object.assign(this, { code: body.code, status: body.status, line: body.line, field: body.field, existing: body.existing });
  }
}

export const csrf = () => document.querySelector('meta[name="csrf"]')?.content ?? "";

export function problemOf(text, status) {
  try {
    return new Problem(JSON.parse(text));
  } catch {
    return new Problem({ code: "unavailable", status });
  }
}

// `body`: an object goes as JSON, a File as it is.
export async function call(method, path, body, headers = {}) {
  const raw = body instanceof Blob;
  let response;
  let text;
  try {
    response = await fetch(`/desk/api/v1${path}`, {
      method,
      headers: { "X-CSRF-Token": csrf(), ...(body ? { "Content-Type": raw ? "text/csv" : "application/json" } : {}), ...headers },
      body: raw || !body ? body : JSON.stringify(body),
      credentials: "same-origin",
    });
    text = await response.text();
  } catch {
    throw new Problem({ code: "offline", detail: "Sem conexão com o servidor.", remedy: "Verifique a rede e tente de novo." });
  }
  if (!response.ok) throw problemOf(text, response.status);
  return text ? JSON.parse(text) : null;
}

export function show(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

let fading;

export function toast(text) {
  const place = document.querySelector("[data-toast]");
  show(place, text);
  clearTimeout(fading); // or what was said before would take this one away
  fading = setTimeout(() => show(place, ""), Math.max(5000, text.length * 70));
}

// An element with text and children; text is never parsed as HTML.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// A new Idempotency-Key.
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

import { call, show } from "./api.js";
import { follow, refresh } from "./live.js";

const page = document.querySelector("[data-case]");
const path = `/cases/${page.dataset.case}`;
const version = () => Number(page.querySelector("[data-version]").dataset.version);
const answer = page.querySelector("[data-answer]");
const closing = page.querySelector("[data-close]");

async function attempt(form, work) {
  const problem = form.querySelector("[data-problem]");
  const buttons = form.querySelectorAll("button");
  buttons.forEach((b) => (b.disabled = true));
  show(problem, "");
  try {
    await work();
  } catch (error) {
    show(problem, error.message);
    if (error.code === "conflict") await refresh();
  } finally {
    buttons.forEach((b) => (b.disabled = false));
  }
}

answer?.addEventListener("submit", (event) => {
  event.preventDefault();
  const field = answer.elements.text;
  attempt(answer, async () => {
    await call("POST", `${path}/messages`, { text: field.value });
    field.value = "";
    await refresh();
    follow();
    page.querySelector("[data-take]")?.closest("p").remove();
    field.focus();
  });
});

answer?.elements.text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) answer.requestSubmit();
});

page.querySelector("[data-take]")?.addEventListener("click", () =>
  attempt(closing, async () => {
    await call("POST", `${path}/take`, { version: version() });
    location.reload();
  }),
);

closing?.addEventListener("submit", (event) => {
  event.preventDefault();
  const fields = new FormData(closing);
  attempt(closing, async () => {
    await call("POST", `${path}/close`, { version: version(), outcome: fields.get("outcome"), returned: fields.get("returned") });
    location.reload();
  });
});

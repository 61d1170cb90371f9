import { call, show } from "./api.js";

const form = document.querySelector("[data-login], [data-link]");
const problem = form.querySelector(".problem");
const button = form.querySelector("button");

async function enter() {
  const { link } = form.dataset;
  const fields = new FormData(form);
  button.disabled = true;
  show(problem, "");
  try {
    await call("POST", "/session", link ? { link } : { login: fields.get("login"), password: fields.get("password") });
    location.replace(form.dataset.onward);
  } catch (error) {
    show(problem, error.message);
    button.disabled = false;
    form.elements.password?.select();
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter();
});

if (form.dataset.link) {
  // The token leaves the address bar and the history before it is used.
  history.replaceState(null, "", "/desk/login");
  // Who is logged in already is asked first: the link may be somebody else's.
  if (!("ask" in form.dataset)) enter();
}

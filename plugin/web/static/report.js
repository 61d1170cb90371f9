// Pause and resume. The buttons are in the region that is replaced as it changes, so the page listens, not they.
import { call, toast } from "./api.js";
import { refresh } from "./live.js";

document.addEventListener("click", async (event) => {
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

// What must happen once, however often it is asked for: a click is repeated, an answer gets lost, a page is loaded anew.
import { call, make, newKey } from "./api.js";

// A refusal in our own words says that nothing was done. Anything else (no answer, a proxy's, a failure) says nothing.
const refused = (error) => error.status < 500 && error.code !== "unavailable";

// One key for one intention, and it stays while nobody knows what became of it: only a person gives it up (`another`).
// `kept` is the name it is remembered by in this tab.
export function intention(kept) {
  let key = sessionStorage.getItem(kept);
  let doubtful = Boolean(key);
  key ??= newKey();

  function settled() {
    doubtful = false;
    sessionStorage.removeItem(kept);
  }

  return {
    // Whether an earlier request may have been carried out.
    doubtful: () => doubtful,

    async post(path, body) {
      sessionStorage.setItem(kept, key); // also for whoever leaves before the answer is here
      try {
        const answer = await call("POST", path, body, { "Idempotency-Key": key });
        settled();
        return answer;
      } catch (error) {
        doubtful ||= !refused(error);
        if (!doubtful || error.existing) settled(); // known now, though the key stays the old intention's
        throw error;
      }
    },

    another() {
      settled();
      key = newKey();
    },
  };
}

// In `place`: `text`, a link and, where it makes sense, what lets go of the earlier intention.
export function already(place, text, link, more) {
  const go = make("a", { target: "_blank", rel: "noopener", ...link });
  place.replaceChildren(text, " ", go, ...(more ? [" ", make("button", { type: "button", className: "tight quiet", ...more })] : []));
  place.hidden = false;
}

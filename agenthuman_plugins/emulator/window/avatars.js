// The avatars with their pictures, and new ones from pictures that are dropped.

import { canCopy, copy, get, make, send } from "./dom.js";

let complain = () => {};

export function setUp(notice) {
  complain = notice;
}

export function show(avatars, { avatars: { limit, used }, plan }) {
  get("cards").replaceChildren(...avatars.map(card));
  get("drop").classList.toggle("full", used >= limit);
  get("drop-more").textContent = limit
    ? `It becomes an avatar after the checks of upload-face: one clear face, 10 MB at most. ${used} of ${limit} made this month.`
    : `The plan ${plan} has no custom avatars: start the emulator with --plan explorer.`;
}

function card({ avatar_id: id, own, tags, preview_url: preview }) {
  const button = make("button", { "aria-label": `Copy ${id}`, hidden: !canCopy }, "Copy");
  button.addEventListener("click", () => copy(button, id));
  return make(
    "li",
    {},
    make("img", { src: preview, alt: `Face of ${id}`, width: 200, height: 200, loading: "lazy" }),
    make("p", { class: "id" }, id),
    make("p", { class: "foot" }, make("span", { class: "more" }, own ? "Yours" : ["Public", ...tags].join(" · ")), button),
  );
}

async function upload(file) {
  if (!file) return;
  const drop = get("drop");
  drop.setAttribute("aria-busy", "true");
  try {
    await send("POST", "/window/avatars", file, file.type || "application/octet-stream");
    complain("");
  } catch (error) {
    complain(`${file.name}: ${error.message}`);
  } finally {
    drop.removeAttribute("aria-busy");
    get("picture").value = "";
  }
}

get("picture").addEventListener("change", ({ target }) => upload(target.files[0]));
// A picture that misses the view must not replace the page.
for (const type of ["dragover", "drop"]) addEventListener(type, (event) => event.preventDefault());
get("avatars").addEventListener("dragover", () => get("drop").classList.add("over"));
get("avatars").addEventListener("dragleave", () => get("drop").classList.remove("over"));
get("avatars").addEventListener("drop", ({ dataTransfer }) => {
  get("drop").classList.remove("over");
  upload(dataTransfer.files[0]);
});

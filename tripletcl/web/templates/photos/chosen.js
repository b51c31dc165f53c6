// The chosen photos: to be taught, exported, or the examples of a search.
import { $, counted, fetchOrFail, make, picture, post, served } from "./core.js";
import { go } from "./address.js";
import { shown } from "./gallery.js";
import { start } from "./work.js";

const EXAMPLES = 20, STRIP = 11;
const chosen = new Map();  // by id
let lastChosen = null;

export const isChosen = (photo) => chosen.has(photo.id);

export function choose(photo, event = {}) {
  const range = event.shiftKey ? between(lastChosen, photo.id) : [];
  if (range.length) for (const each of range) chosen.set(each.id, each);
  else if (!chosen.delete(photo.id)) chosen.set(photo.id, photo);
  lastChosen = photo.id;
  showChosen();
}
export function chooseAll(photos) {
  const all = photos.every(isChosen);
  for (const photo of photos) if (all) chosen.delete(photo.id); else chosen.set(photo.id, photo);
  showChosen();
}
function between(one, other) {
  const [first, last] = [one, other].map((id) => shown.findIndex((photo) => photo.id === id)).sort((a, b) => a - b);
  return first < 0 ? [] : shown.slice(first, last + 1);
}
export function clearChosen() {
  chosen.clear();
  showChosen();
}

export function markOf(photo) {
  const mark = make("button", { className: "mark", textContent: "✓", onclick: (event) => choose(photo, event) });
  mark.setAttribute("aria-label", `Choose ${photo.name}`);
  mark.setAttribute("aria-pressed", String(isChosen(photo)));
  mark.dataset.id = photo.id;
  return mark;
}

export function showChosen() {
  $("selection").hidden = !chosen.size;
  $("chosen").replaceChildren(chosen.size.toLocaleString("en"), make("span", { textContent: " chosen" }));
  $("teach").hidden = !served.about?.may_teach;
  $("into-folder").hidden = !served.about?.folders;
  document.body.classList.toggle("choosing", chosen.size > 0);
  for (const mark of document.querySelectorAll(".mark")) mark.setAttribute("aria-pressed", String(chosen.has(mark.dataset.id)));
}

function form(fields) {
  const body = new FormData();
  for (const id of chosen.keys()) body.append("ids", id);
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return { method: "POST", body };
}

// --- dialogs ---------------------------------------------------------------------------------------------------------

function openDialog(id, title) {
  $(`${id}-title`).textContent = title;
  $(`${id}-error`).textContent = "";
  $(`${id}-dialog`).showModal();
}
const close = (id) => $(`${id}-dialog`).close();

function openLesson() {
  const strip = [...chosen.values()].slice(0, STRIP).map((photo) => make("img", { src: picture(photo), alt: photo.name }));
  if (chosen.size > STRIP) strip.push(make("span", { textContent: `+${chosen.size - STRIP}` }));
  $("lesson-photos").replaceChildren(...strip);
  openDialog("lesson", `What ${chosen.size === 1 ? "does this photo" : `do these ${chosen.size} photos`} show?`);
  $("fact").focus();
}

async function teach(event) {
  event.preventDefault();
  const fact = $("fact").value.trim();
  if (!fact) { $("lesson-error").textContent = "Say what they show."; return; }
  $("lesson-error").textContent = "";
  try {
    await start("/teach", form({ fact }));
    $("fact").value = "";
    close("lesson");
    clearChosen();
  } catch (error) {
    $("lesson-error").textContent = error.message;
  }
}

async function download(kind) {
  $("export-error").textContent = "";
  try {
    const answer = await fetchOrFail("/export", { method: "POST", body: new URLSearchParams({ form: kind, ids: [...chosen.keys()].join(" ") }) });
    const address = URL.createObjectURL(await answer.blob());
    make("a", { href: address, download: `photos.${kind === "list" ? "txt" : kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    close("export");
  } catch (error) {
    $("export-error").textContent = error.message;
  }
}

async function intoFolder(event) {
  event.preventDefault();
  const folder = $("folder").value.trim(), links = event.submitter?.value === "links";
  if (!folder) { $("export-error").textContent = "Name a folder."; return; }
  $("export-error").textContent = "";
  try {
    await start("/export/folder", () => post("/export/folder", { ids: [...chosen.keys()], folder, form: links ? "links" : "copies" }));
    close("export");
  } catch (error) {
    $("export-error").textContent = error.message;
  }
}

export function listenToChosen() {
  $("clear").onclick = clearChosen;
  $("like").onclick = () => go(new URLSearchParams([...chosen.keys()].slice(0, EXAMPLES).map((id) => ["like", id])));
  $("teach").onclick = openLesson;
  $("lesson").onsubmit = teach;
  $("export").onclick = () => openDialog("export", `Export ${counted(chosen.size, "photo")}`);
  $("downloads").onclick = (event) => event.target.value && download(event.target.value);
  $("into-folder").onsubmit = intoFolder;
  for (const button of document.querySelectorAll("dialog .cancel")) button.onclick = () => button.closest("dialog").close();
}

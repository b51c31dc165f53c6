// The page of the user's photos: asks /api/v1, and shows what it answers.
import { $, call, make, served } from "./core.js";
import { FILTERS, filter, go, isSame, keepPlace, onGo, question, search } from "./address.js";
import { choose, chooseAll, listenToChosen, showChosen } from "./chosen.js";
import { showDuplicates } from "./duplicates.js";
import { ask, more, neighbour, shown } from "./gallery.js";
import { closePhoto, enlarge, showPhoto, turn } from "./photo.js";
import { describeFile, showTaught } from "./taught.js";
import { followAll, onFinished } from "./work.js";

const VIEWS = { photos: ask, taught: showTaught, duplicates: showDuplicates };
let last = null;

const viewOf = (query) => (Object.hasOwn(VIEWS, query.get("view") ?? "") ? query.get("view") : "photos");

function show() {
  const query = question(), view = viewOf(query);
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  for (const each of Object.keys(VIEWS)) $(`${each}-view`).hidden = each !== view;
  if (!last || !isSame(query, last)) {
    last = query;
    $("words").value = query.get("q") ?? "";
    for (const name of FILTERS) $("filters").elements[name].value = query.get(name) ?? "";
    $("filters-button").classList.toggle("on", FILTERS.some((name) => query.get(name)));
    for (const dialog of document.querySelectorAll("dialog.small[open]")) dialog.close();
    VIEWS[view](query, history.state ?? {});
  }
  showPhoto(query.get("photo"));
}

async function learnAbout() {
  try {
    const about = await served.learn();
    $("run").textContent = about.run;
    $("memory").hidden = !about.memory;
    showChosen();
    const known = await call("/vocabulary");
    $("known").replaceChildren(...known.slice(0, 500).map((text) => make("option", { value: text })));
  } catch { /* the photos' own error says why */ }
}

function refresh(job) {
  if (job.state !== "done" || job.kind === "export") return;
  const query = question();
  if (job.kind !== "duplicates") learnAbout();
  if (viewOf(query) !== "photos" || (job.kind !== "duplicates" && (query.get("q") || query.get("like")))) {
    keepPlace();
    VIEWS[viewOf(query)](query, history.state);
  }
}

function listenToSearch() {
  $("ask").onsubmit = (event) => { event.preventDefault(); search($("words").value.trim()); };
  $("words").addEventListener("search", () => { if (!$("words").value && question().get("q")) search(""); });
  $("filters").onsubmit = (event) => {
    event.preventDefault();
    filter(Object.fromEntries(FILTERS.map((name) => [name, $("filters").elements[name].value.trim()])));
  };
  $("filters").onreset = () => filter(Object.fromEntries(FILTERS.map((name) => [name, ""])));
  $("filters-button").onclick = () => {
    $("filters").hidden = !$("filters").hidden;
    $("filters-button").setAttribute("aria-expanded", String(!$("filters").hidden));
    if (!$("filters").hidden) scrollTo(0, 0);
  };
}

function listenToPhotos() {
  $("more").onclick = more;
  $("choose-shown").onclick = () => chooseAll(shown);
  $("large").onload = enlarge;
  $("before").onclick = () => turn(-1);
  $("after").onclick = () => turn(1);
  $("close").onclick = closePhoto;
  $("photo").addEventListener("cancel", (event) => { event.preventDefault(); closePhoto(); });
  document.addEventListener("keydown", (event) => {  // wherever the focus is: a button that is disabled loses it
    if (!$("photo").open) return;
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  $("results").addEventListener("keydown", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "x") choose(shown.find((photo) => photo.id === tile.querySelector(".mark").dataset.id));
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    neighbour(tile.querySelector(".open"), event.key)?.focus();
  });
}

function listenToFiles() {
  $("file").onchange = () => describeFile($("file").files[0]);
  $("drop").ondragover = (event) => event.preventDefault();
  $("drop").ondrop = (event) => { event.preventDefault(); describeFile(event.dataTransfer.files[0]); };
}

function listenToAll() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-go]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(new URLSearchParams(new URL(link.href).search));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    $("words").focus();
  });
  addEventListener("popstate", show);
  addEventListener("pagehide", keepPlace);
}

history.scrollRestoration = "manual";
onGo(show, () => shown.length);
onFinished(refresh);
for (const listen of [listenToSearch, listenToPhotos, listenToFiles, listenToChosen, listenToAll]) listen();
learnAbout();
show();
followAll();

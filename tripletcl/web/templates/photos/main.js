// The page of the user's photos: asks /api/v1, and shows what it answers. Names are text, never HTML.
"use strict";
const API = "/api/v1", PAGE = 40, FILTERS = ["after", "before", "folder", "name", "camera", "orientation", "near"];
const $ = (id) => document.getElementById(id);
const chosen = new Map();  // the chosen photos, by id
let about = null, shown = [], next = null, asked = 0, busy = false;

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

async function call(route, options = {}) {
  let answer;
  try { answer = await fetch(API + route, options); } catch { throw new Error("The server does not answer."); }
  const said = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
  if (!answer.ok) throw new Error(sentence(said.error));
  return said;
}
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
const counted = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

// --- the question is in the address ---------------------------------------------------------------------------------

const question = () => new URLSearchParams(location.search);
function go(query, replace = false) {
  for (const [key, value] of [...query]) if (!value) query.delete(key, value);
  const address = query.size ? `/?${query}` : "/";
  history[replace ? "replaceState" : "pushState"]({}, "", address);
  show();
}
const isSame = (one, other) => ["q", "like", "view", ...FILTERS].every((key) => `${one.getAll(key)}` === `${other.getAll(key)}`);

let last = null;
function show() {
  const query = question(), view = query.get("view") === "taught" ? "taught" : "photos";
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  $("photos-view").hidden = view !== "photos";
  $("taught-view").hidden = view !== "taught";
  if (!last || !isSame(query, last)) {
    last = query;
    $("words").value = query.get("q") ?? "";
    for (const name of FILTERS) $("filters").elements[name].value = query.get(name) ?? "";
    $("filters-button").classList.toggle("on", FILTERS.some((name) => query.get(name)));
    if (view === "taught") showTaught(); else ask(query);
  }
  showPhoto(query.get("photo"));
}

// --- the photos ------------------------------------------------------------------------------------------------------

async function ask(query) {
  const number = ++asked, words = query.get("q"), like = query.getAll("like");
  next = null;
  $("more").hidden = true;
  for (const id of ["answer", "error", "notes"]) $(id).replaceChildren();
  $("title").textContent = words || (like.length ? "Similar photos" : "Your photos");
  document.title = `${$("title").textContent}: ${about?.run ?? "photos"}`;
  $("results").setAttribute("aria-busy", "true");
  try {
    const page = await load(query, 0);
    if (number !== asked) return;
    shown = [];
    $("results").replaceChildren();
    tell(page, words || like.length);
    add(page.photos ?? page.hits, words || like.length);
    next = page.next_offset;
    if (!shown.length) $("results").replaceChildren(make("p", { className: "empty", textContent: "No photo is found." }));
  } catch (error) {
    if (number !== asked) return;
    shown = [];
    $("results").replaceChildren();
    $("error").textContent = error.message;
  } finally {
    if (number === asked) {
      $("results").removeAttribute("aria-busy");
      $("more").hidden = next === null;
    }
  }
}

function load(query, offset) {
  const fields = new URLSearchParams({ offset, limit: PAGE });
  for (const name of FILTERS) if (query.get(name)) fields.set(name, query.get(name));
  for (const photo of query.getAll("like")) fields.append("like", photo);
  if (query.get("q")) fields.set("words", query.get("q"));
  return call(`${fields.has("words") || fields.has("like") ? "/query" : "/photos"}?${fields}`);
}

function tell(page, isAsked) {
  $("answer").textContent = isAsked
    ? `Understood as ${page.query.replace(/like \S*\//g, "like ")}. Best first; a score is ${SCALES[page.scale] ?? page.scale}.`
    : `${counted(page.total, "photo")}, the latest first.`;
  $("notes").replaceChildren(...meant(page.suggestion), ...(page.notes ?? []).filter((note) => !note.startsWith("did you mean "))
    .map((note) => make("li", { textContent: sentence(note) })));
}
function meant(words) {
  if (!words) return [];
  const link = make("a", { textContent: words, href: `?${new URLSearchParams({ q: words })}` });
  link.dataset.go = "";
  return [make("li", {}, "Did you mean ", link, "?")];
}
const SCALES = { cosines: "the sum of the cosines of the units asked for", probability: "a probability" };

async function more() {
  if (next === null || busy) return;
  busy = true;
  const number = asked, offset = next;
  $("more").disabled = true;
  try {
    const page = await load(question(), offset);
    if (number !== asked) return;
    add(page.photos ?? page.hits, Boolean(page.hits));
    next = page.next_offset;
    $("more").hidden = next === null;
  } catch (error) {
    if (number === asked) $("error").textContent = error.message;
  } finally {
    busy = false;
    $("more").disabled = false;
  }
}

const day = (photo) => (photo.taken ?? photo.modified ?? "").slice(0, 10);
const month = (photo) => day(photo) && new Date(`${day(photo)}T12:00`).toLocaleDateString("en", { month: "long", year: "numeric" });

function add(photos, isAsked) {
  for (const photo of photos) {
    const group = isAsked ? "" : month(photo) || "Without a date";
    let grid = $("results").lastElementChild;
    if (!grid || grid.dataset.group !== group) {
      if (group) $("results").append(make("h2", { className: "day", textContent: group }));
      grid = make("ul", { className: "grid" });
      grid.dataset.group = group;
      $("results").append(grid);
    }
    grid.append(tile(photo));
    shown.push(photo);
  }
}

function tile(photo) {
  const image = make("img", { src: `${API}/photos/${photo.id}/thumbnail`, alt: photo.name, loading: "lazy", decoding: "async" });
  const open = make("button", { className: "open", onclick: () => openPhoto(photo.id) }, image);
  const mark = make("button", { className: "mark", textContent: "✓", onclick: () => choose(photo) });
  mark.setAttribute("aria-label", `Choose ${photo.name}`);
  mark.setAttribute("aria-pressed", String(chosen.has(photo.id)));
  mark.dataset.id = photo.id;
  const score = photo.score === undefined ? "" : `${photo.score.toFixed(3)} · `;
  const caption = make("figcaption", {}, make("b", { textContent: photo.name, title: photo.path }),
    make("small", { textContent: `${score}${day(photo) || "no date"}`, title: photo.folder }));
  const item = make("li", { className: "tile" }, make("figure", {}, open, mark, caption));
  const ratio = photo.width && photo.height ? photo.width / photo.height : 4 / 3;
  item.style.setProperty("--r", Math.min(2.4, Math.max(0.6, ratio)).toFixed(3));
  return item;
}

// --- one photo -------------------------------------------------------------------------------------------------------

function openPhoto(id) {
  const query = question(), replace = query.has("photo");
  query.set("photo", id);
  go(query, replace);
}
function closePhoto() {
  const query = question();
  query.delete("photo");
  go(query, true);
}
function turn(step) {
  const at = shown.findIndex((photo) => photo.id === question().get("photo")) + step;
  if (shown[at]) openPhoto(shown[at].id);
  if (at >= shown.length - 2) more();
}

let opened = null;
async function showPhoto(id) {
  const dialog = $("photo");
  if (id === opened) return;
  opened = id;
  if (!id) { dialog.close(); return; }
  $("large").src = `${API}/photos/${id}/thumbnail?size=1600`;
  $("facts").replaceChildren();
  $("details").replaceChildren();
  $("actions").replaceChildren();
  $("photo-name").textContent = "…";
  if (!dialog.open) dialog.showModal();
  try {
    const photo = shown.find((each) => each.id === id) ?? await call(`/photos/${id}`);
    if (opened !== id) return;
    $("photo-name").textContent = $("large").alt = photo.name;
    describe(photo);
    const answer = await call(`/photos/${id}/facts?k=6`);
    if (opened === id) $("facts").replaceChildren(...facts(answer.facts));
  } catch (error) {
    if (opened === id) $("facts").replaceChildren(make("li", { textContent: error.message }));
  }
}

function describe(photo) {
  const rows = {
    Folder: photo.folder,
    Taken: photo.taken?.replace("T", " ").slice(0, 16),
    Changed: photo.taken ? null : photo.modified?.replace("T", " ").slice(0, 16),
    Camera: photo.camera,
    Size: [photo.width && `${photo.width} × ${photo.height}`, photo.size && bytes(photo.size)].filter(Boolean).join(", "),
    Place: photo.latitude !== null && photo.latitude !== undefined ? `${photo.latitude.toFixed(4)}, ${photo.longitude.toFixed(4)}` : null,
  };
  $("details").replaceChildren(...Object.entries(rows).filter(([, value]) => value)
    .flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  const file = `${API}/photos/${photo.id}/file`;
  const show = make("button", { textContent: "Show in folder", onclick: () => call(`/photos/${photo.id}/show`, { method: "POST" })
    .catch((error) => $("facts").prepend(make("li", { textContent: error.message }))) });
  const pick = make("button", { textContent: chosen.has(photo.id) ? "Do not choose" : "Choose", onclick: () => {
    choose(photo);
    pick.textContent = chosen.has(photo.id) ? "Do not choose" : "Choose";
  } });
  $("actions").replaceChildren(
    make("button", { textContent: "Similar photos", className: "primary", onclick: () => go(new URLSearchParams({ like: photo.id })) }),
    make("a", { textContent: "Open", href: file, target: "_blank", rel: "noopener" }),
    make("a", { textContent: "Download", href: `${file}?download=true`, download: photo.name }),
    ...(about?.files ? [show] : []), pick);
}
const bytes = (size) => (size < 1e6 ? `${Math.max(1, Math.round(size / 1e3))} kB` : `${(size / 1e6).toFixed(1)} MB`);

function facts(entries) {
  if (!entries.length) return [make("li", { textContent: "Nothing that this model knows." })];
  return entries.map((fact) => {
    const value = fact.probability ?? Math.max(0, fact.score);
    const meter = make("meter", { value, max: 1 });
    meter.setAttribute("aria-label", fact.text);
    const text = fact.fact.filter(Boolean).join(" ");
    return make("li", {}, make("span", { textContent: text }), make("span", { textContent: value.toFixed(2) }), meter);
  });
}

// --- chosen photos ---------------------------------------------------------------------------------------------------

function choose(photo) {
  if (!chosen.delete(photo.id)) chosen.set(photo.id, photo);
  showChosen();
}
function showChosen() {
  $("selection").hidden = !chosen.size;
  $("chosen").textContent = `${chosen.size} chosen`;
  $("lesson").hidden = !about?.may_teach;
  document.body.classList.toggle("choosing", chosen.size > 0);
  for (const mark of document.querySelectorAll(".mark")) mark.setAttribute("aria-pressed", String(chosen.has(mark.dataset.id)));
}

function saveAs(form) {
  const fields = new FormData();
  for (const id of chosen.keys()) fields.append("ids", id);
  fields.append("form", form);
  return fetch(`${API}/export`, { method: "POST", body: fields }).then(async (answer) => {
    if (!answer.ok) throw new Error(sentence((await answer.json()).error));
    const address = URL.createObjectURL(await answer.blob());
    make("a", { href: address, download: `photos.${form === "list" ? "txt" : form}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  });
}

// --- lessons ---------------------------------------------------------------------------------------------------------

async function start(route, fields) {
  const job = await call(route, { method: "POST", body: fields });
  $("work").hidden = false;
  const text = make("span"), bar = make("progress", { max: 1 }), close = make("button", { textContent: "OK", hidden: true });
  bar.setAttribute("aria-label", "Progress of the lesson");
  const line = make("p", { role: "status" }, text, bar, close);
  close.onclick = () => { line.remove(); $("work").hidden = !$("work").children.length; };
  $("work").append(line);
  for (let now = job; ; now = await call(`/jobs/${job.id}`).catch((error) => ({ state: "failed", error: error.message }))) {
    text.textContent = now.state === "waiting" ? "Waiting for the lesson before it" : `${job.kind === "undo" ? "Undoing" : "Learning"} ${job.about}`;
    if (now.progress) { bar.max = now.progress.total || 1; bar.value = now.progress.done; }
    if (now.state === "done" || now.state === "failed") { finish(now, text, bar, close); return; }
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

function finish(job, text, bar, close) {
  bar.remove();
  close.hidden = false;
  if (job.state === "failed") { text.textContent = sentence(job.error); text.style.color = "var(--bad)"; return; }
  const fact = job.result.fact.filter(Boolean).join(" ");
  text.textContent = job.kind === "undo" ? `${fact} is undone.` : `Learned ${fact} from ${counted(job.result.photos, "photo")}.`;
  if (job.kind !== "undo") close.before(make("button", { textContent: "Show what it finds", onclick: () => go(new URLSearchParams({ q: job.result.fact.map((unit) => unit ?? "?").join(", ") })) }));
  if (question().get("view") === "taught") showTaught(); else ask(question());
  learnAbout();
}

async function showTaught() {
  $("taught-error").textContent = "";
  document.title = `Taught: ${about?.run ?? "photos"}`;
  try {
    const tasks = await call("/tasks"), lessons = tasks.filter((task) => task.name.startsWith("taught: ")).reverse();
    $("lessons").replaceChildren(...lessons.map((task) => {
      const words = task.facts[0].replace(/^<|>$/g, "");
      const known = task.map_now === null ? "" : `, average precision ${task.map_now.toFixed(2)}`;
      return make("li", {}, make("div", {}, make("strong", { textContent: words.split(", ").filter((unit) => unit !== "?").join(" ") }),
        make("small", { textContent: `${task.learned.slice(0, 16).replace("T", " ")}, ${counted(task.images ?? 0, "photo")}${known}` })),
        make("button", { textContent: "Show what it finds", onclick: () => go(new URLSearchParams({ q: words })) }));
    }));
    if (!lessons.length) $("lessons").replaceChildren(make("li", { textContent: "Nothing has been taught yet." }));
    $("undo").hidden = !lessons.length || tasks.at(-1).name !== lessons[0].name || !about?.may_teach;
  } catch (error) {
    $("taught-error").textContent = error.message;
  }
}

async function describeFile(file) {
  if (!file) return;
  const fields = new FormData();
  fields.append("photo", file);
  $("described").replaceChildren(make("li", { textContent: "Looking at it …" }));
  const items = await call("/describe?k=6", { method: "POST", body: fields }).then((answer) => facts(answer.facts),
    (error) => [make("li", { textContent: error.message })]);
  $("described").replaceChildren(...items);
}

// --- events ----------------------------------------------------------------------------------------------------------

async function learnAbout() {
  try {
    about = await call("/");
    $("run").textContent = about.run;
    $("memory").hidden = !about.memory;
    const known = await call("/vocabulary");
    $("known").replaceChildren(...known.slice(0, 500).map((text) => make("option", { value: text })));
  } catch { /* the photos' own error says why */ }
}

function listen() {
  $("ask").onsubmit = (event) => { event.preventDefault(); search($("words").value.trim()); };
  $("words").addEventListener("search", () => { if (!$("words").value && question().get("q")) search(""); });
  $("filters").onsubmit = (event) => { event.preventDefault(); filter(); };
  $("filters").onreset = () => setTimeout(filter);
  $("filters-button").onclick = () => {
    $("filters").hidden = !$("filters").hidden;
    $("filters-button").setAttribute("aria-expanded", String(!$("filters").hidden));
  };
  $("more").onclick = more;
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "600px" }).observe($("more"));
  $("before").onclick = () => turn(-1);
  $("after").onclick = () => turn(1);
  $("close").onclick = closePhoto;
  $("photo").addEventListener("cancel", (event) => { event.preventDefault(); closePhoto(); });
  $("photo").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") turn(-1);
    if (event.key === "ArrowRight") turn(1);
  });
  $("clear").onclick = () => { chosen.clear(); showChosen(); };
  $("like").onclick = () => go(new URLSearchParams([...chosen.keys()].slice(0, 20).map((id) => ["like", id])));
  $("export").onchange = () => {
    const form = $("export").value;
    $("export").value = "";
    if (form) saveAs(form).catch((error) => { $("error").textContent = error.message; });
  };
  $("lesson").onsubmit = (event) => {
    event.preventDefault();
    const fields = new FormData();
    for (const id of chosen.keys()) fields.append("ids", id);
    fields.append("fact", $("fact").value.trim());
    $("error").textContent = "";
    start("/teach", fields).catch((error) => { $("error").textContent = error.message; scrollTo(0, 0); });
  };
  $("undo").onclick = () => { $("taught-error").textContent = "";
    start("/undo").catch((error) => { $("taught-error").textContent = error.message; }); };
  $("file").onchange = () => describeFile($("file").files[0]);
  $("drop").ondragover = (event) => event.preventDefault();
  $("drop").ondrop = (event) => { event.preventDefault(); describeFile(event.dataTransfer.files[0]); };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-go]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(new URLSearchParams(new URL(link.href).search));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); $("words").focus(); }
  });
  addEventListener("popstate", show);
}

function search(words) {
  const query = question();
  for (const key of ["view", "photo", "like"]) query.delete(key);
  query.set("q", words);
  go(query);
}
function filter() {
  const query = question();
  query.delete("photo");
  for (const name of FILTERS) query.set(name, $("filters").elements[name].value.trim());
  go(query);
}

listen();
learnAbout().then(showChosen);
show();

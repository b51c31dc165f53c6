// The photos: asked for, in rows, by month or best first, page after page without end.
import { $, call, day, dayWritten, lastFolder, make, month, picture } from "./core.js";
import { FILTERS, question } from "./address.js";
import { clearAnswer, name, tell, tellFilters } from "./answer.js";
import { chooseAll, markOf } from "./chosen.js";
import { openPhoto } from "./photo.js";

const PAGE = 40, MOST = 500;
export let shown = [];
let next = null, asked = 0, busy = false;

// An answer never stands under another question: what is shown leaves when the next one is asked.
export async function ask(query, { count = 0, at = 0 } = {}) {
  const number = ++asked, words = query.get("q"), like = query.getAll("like");
  next = null;
  $("more").hidden = true;
  clearAnswer();
  $("choose-shown").hidden = true;
  tellFilters(query);
  $("title").textContent = words || (like.length ? "Similar photos" : "Your photos");
  $("to-duplicates").hidden = Boolean(words || like.length);
  document.title = `${$("title").textContent}: ${name()}`;
  $("results").setAttribute("aria-busy", "true");
  if (!at) scrollTo(0, 0);
  try {
    const page = await load(query, 0, Math.min(MOST, Math.max(PAGE, count)));
    if (number !== asked) return;
    empty();
    tell(page, query);
    add(page);
    $("choose-shown").hidden = !page.hits?.length;
    if (!shown.length) $("results").replaceChildren(make("p", { className: "empty", textContent: "No photo is found." }));
    scrollTo(0, at);
  } catch (error) {
    if (number !== asked) return;
    empty();
    $("error").textContent = error.message;
  } finally {
    if (number === asked) {
      $("results").removeAttribute("aria-busy");
      watchEnd();
    }
  }
}

function empty() {
  shown = [];
  $("results").replaceChildren();
}

function load(query, offset, limit = PAGE) {
  const fields = new URLSearchParams({ offset, limit });
  for (const name of FILTERS) if (query.get(name)) fields.set(name, query.get(name));
  for (const photo of query.getAll("like")) fields.append("like", photo);
  if (query.get("q")) fields.set("words", query.get("q"));
  return call(`${fields.has("words") || fields.has("like") ? "/query" : "/photos"}?${fields}`);
}

export async function more() {
  if (next === null || busy) return;
  busy = true;
  const number = asked;
  $("more").disabled = true;
  try {
    const page = await load(question(), next);
    if (number === asked) add(page);
  } catch (error) {
    if (number === asked) { next = null; $("error").textContent = error.message; }
  } finally {
    busy = false;
    $("more").disabled = false;
    if (number === asked) watchEnd();
  }
}

const end = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "800px" });
function watchEnd() {  // observed anew, it tells at once whether the end is near: a page may not fill the screen
  $("more").hidden = next === null;
  end.unobserve($("more"));
  end.observe($("more"));
}

function add(page) {
  const photos = page.photos ?? page.hits;
  for (const photo of photos) {
    const group = page.hits ? "" : month(photo) || "Without a date";
    let grid = $("results").lastElementChild;
    if (!grid || grid.dataset.group !== group) grid = startGroup(group);
    shown.push(photo);
    grid.append(tile(photo));
  }
  next = page.next_offset;
  suggest(photos);
}

function startGroup(group) {
  const grid = make("ul", { className: "grid" });
  grid.dataset.group = group;
  if (group) {
    const all = make("button", { textContent: "Choose all", className: "link", onclick: () => chooseAll(photosOf(group)) });
    all.setAttribute("aria-label", `Choose all of ${group}`);
    $("results").append(make("div", { className: "day" }, make("h2", { textContent: group }), all));
  }
  $("results").append(grid);
  return grid;
}
const photosOf = (group) => shown.filter((photo) => (month(photo) || "Without a date") === group);

export function tile(photo, caption = null) {
  const image = make("img", { src: picture(photo), alt: photo.name, loading: "lazy", decoding: "async", draggable: false });
  const open = make("button", { className: "open", title: about(photo), onclick: () => openPhoto(photo) }, image);
  const item = make("li", { className: "tile" }, make("figure", {}, open, markOf(photo), make("figcaption", {},
    make("b", { textContent: photo.name }), make("small", { textContent: caption ?? `${dayWritten(day(photo)) || "no date"} · ${lastFolder(photo.folder)}` }))));
  const ratio = photo.width && photo.height ? photo.width / photo.height : 4 / 3;
  item.style.setProperty("--r", Math.min(2.4, Math.max(0.6, ratio)).toFixed(3));
  return item;
}
const about = (photo) => [photo.path, photo.camera, photo.width && `${photo.width} × ${photo.height}`].filter(Boolean).join("\n");

// Folders and cameras that were seen are offered in the filters.
function suggest(photos) {
  for (const [list, of] of [["folders", (photo) => lastFolder(photo.folder)], ["cameras", (photo) => photo.camera]]) {
    const known = new Set([...$(list).options].map((option) => option.value));
    for (const value of new Set(photos.map(of))) if (value && !known.has(value)) $(list).append(make("option", { value }));
  }
}

// The tile next to one in a direction of the arrow keys.
export function neighbour(open, key) {
  const all = [...document.querySelectorAll("#results .open")], at = all.indexOf(open);
  if (key === "ArrowLeft" || key === "ArrowRight") return all[at + (key === "ArrowRight" ? 1 : -1)];
  const box = open.getBoundingClientRect(), middle = box.left + box.width / 2, down = key === "ArrowDown";
  const rows = all.map((each) => [each, each.getBoundingClientRect()])
    .filter(([, other]) => (down ? other.top > box.top + 1 : other.top < box.top - 1));
  const top = rows.length && Math[down ? "min" : "max"](...rows.map(([, other]) => other.top));
  const distance = ([, other]) => Math.abs(other.left + other.width / 2 - middle);
  return rows.filter(([, other]) => Math.abs(other.top - top) < 2).sort((one, other) => distance(one) - distance(other))[0]?.[0];
}

// Photos that are nearly the same, in groups, the largest of each first. Nothing is deleted.
import { $, bytes, call, counted, make } from "./core.js";
import { name } from "./answer.js";
import { chooseAll } from "./chosen.js";
import { tile } from "./gallery.js";
import { start } from "./work.js";

const PAGE = 50;
let next = null;

export async function showDuplicates() {
  document.title = `Near-duplicates: ${name()}`;
  $("duplicates-error").textContent = "";
  $("look").onclick = look;
  $("more-groups").onclick = more;
  $("groups").replaceChildren();
  next = 0;
  await more();
}

async function look() {
  $("duplicates-error").textContent = "";
  try { await start("/duplicates"); } catch (error) { $("duplicates-error").textContent = error.message; }
}

async function more() {
  try {
    const page = await call(`/duplicates?offset=${next}&limit=${PAGE}`);
    $("found-groups").textContent = !page.looked ? "" : page.total ? `${counted(page.total, "group")}, the largest photo of each first.` : "No two photos are nearly the same.";
    $("look").textContent = page.looked ? "Look again" : "Look for near-duplicates";
    $("groups").append(...page.groups.map(group));
    next = page.next_offset;
    $("more-groups").hidden = next === null;
  } catch (error) {
    $("duplicates-error").textContent = error.message;
  }
}

function group({ photos }) {
  const rest = make("button", { textContent: photos.length === 2 ? "Choose the smaller one" : "Choose all but the largest", onclick: () => chooseAll(photos.slice(1)) });
  const tiles = photos.map((photo) => tile(photo, [photo.width && `${photo.width} × ${photo.height}`, photo.size && bytes(photo.size)].filter(Boolean).join(" · ")));
  return make("li", { className: "group" }, make("ul", { className: "grid" }, tiles), rest);
}

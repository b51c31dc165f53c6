// One photo, large, with its details at the side.
import { $, API, bytes, call, day, dayWritten, lastFolders, make, picture, served } from "./core.js";
import { go, question, withFilter } from "./address.js";
import { choose, isChosen } from "./chosen.js";
import { more, shown } from "./gallery.js";

const ENLARGED = 3;  // times at most, so that a small picture is not a blur
let opened = null;
const known = new Map();  // photos that were opened from elsewhere than the list

export function openPhoto(photo) {
  known.set(photo.id, photo);
  turnTo(photo.id);
}
function turnTo(id) {
  const query = question(), replace = query.has("photo");
  query.set("photo", id);
  go(query, replace ? { replace } : { opened: true });
}
export function closePhoto() {
  if (history.state?.opened) { history.back(); return; }  // as Back does
  const query = question();
  query.delete("photo");
  go(query, { replace: true });
}

const beside = (step) => {
  const at = shown.findIndex((photo) => photo.id === opened);
  return at < 0 ? null : shown[at + step];
};
export async function turn(step) {
  if (step > 0 && !beside(2)) await more();
  if (beside(step)) turnTo(beside(step).id);
}

export async function showPhoto(id) {
  if (id === opened) return;
  opened = id;
  if (!id) { $("photo").close(); return; }
  $("large").style.maxWidth = $("large").style.maxHeight = "";
  $("large").src = picture(id, 1600);
  for (const part of ["facts", "details", "actions", "photo-error"]) $(part).replaceChildren();
  $("photo-name").textContent = "…";
  if (!$("photo").open) $("photo").showModal();
  try {
    const photo = shown.find((each) => each.id === id) ?? known.get(id) ?? await call(`/photos/${id}`);
    if (opened !== id) return;
    describe(photo);
    const answer = await call(`/photos/${id}/facts?k=6`);
    if (opened === id) $("facts").replaceChildren(...facts(answer.facts));
  } catch (error) {
    if (opened === id) $("photo-error").textContent = error.message;
  }
}

export function enlarge() {
  const image = $("large");
  if (image.naturalWidth) image.style.maxWidth = `${ENLARGED * image.naturalWidth}px`;
  if (image.naturalHeight) image.style.maxHeight = `${ENLARGED * image.naturalHeight}px`;
  for (const step of [1, -1]) if (beside(step)) new Image().src = picture(beside(step), 1600);  // read ahead
}

function describe(photo) {
  $("photo-name").textContent = $("large").alt = photo.name;
  $("before").disabled = !beside(-1);
  $("after").disabled = !beside(1);
  const date = day(photo), time = (photo.taken ?? photo.modified ?? "").slice(11, 16);
  const size = [photo.width && `${photo.width} × ${photo.height}`, photo.size && bytes(photo.size)].filter(Boolean).join(", ");
  const place = photo.latitude === null ? null : `${photo.latitude.toFixed(4)}, ${photo.longitude.toFixed(4)}`;
  const rows = [
    ["Folder", photo.folder, withFilter("folder", lastFolders(photo.folder)), "All photos of this folder"],
    [photo.taken ? "Taken" : "Changed", date && `${dayWritten(date)}, ${time}`, `/?${new URLSearchParams({ after: date, before: date })}`, "All photos of this day"],
    ["Camera", photo.camera, withFilter("camera", photo.camera), "All photos of this camera"],
    ["Size", size],
    ["Place", place, place && withFilter("near", `${photo.latitude.toFixed(4)},${photo.longitude.toFixed(4)},5`), "All photos within 5 km"],
    ["Score", photo.score?.toFixed(3)],
  ];
  $("details").replaceChildren(...rows.filter(([, value]) => value).flatMap(([term, value, href, title]) => {
    const link = href ? make("a", { textContent: value, href, title }) : value;
    if (href) link.dataset.go = "";
    return [make("dt", { textContent: term }), make("dd", {}, link)];
  }));
  $("actions").replaceChildren(...actions(photo));
}

function actions(photo) {
  const file = `${API}/photos/${photo.id}/file`;
  const show = make("button", { textContent: "Show in folder", onclick: () => call(`/photos/${photo.id}/show`, { method: "POST" })
    .then(() => { $("photo-error").textContent = ""; }, (error) => { $("photo-error").textContent = error.message; }) });
  const label = () => (isChosen(photo) ? "Do not choose" : "Choose");
  const pick = make("button", { textContent: label(), onclick: () => { choose(photo); pick.textContent = label(); } });
  return [
    make("button", { textContent: "Similar photos", className: "primary", onclick: () => go(new URLSearchParams({ like: photo.id })) }),
    make("a", { textContent: "Open", href: file, target: "_blank", rel: "noopener" }),
    make("a", { textContent: "Download", href: `${file}?download=true`, download: photo.name }),
    served.about?.files ? show : null, pick].filter(Boolean);
}

const LEAST = 0.1;  // of what is shown without a probability

export function facts(entries) {
  const shown = entries.filter((fact) => fact.probability !== null || fact.score >= LEAST);
  if (!shown.length) return [make("li", { className: "quiet", textContent: "Nothing that this model is sure of. Teach it by a few photos." })];
  return shown.map((fact) => {
    const value = Math.max(0, Math.min(1, fact.probability ?? fact.score)), text = fact.fact.filter(Boolean).join(" ");
    const meter = make("meter", { value, max: 1 });
    meter.setAttribute("aria-label", text);
    return make("li", {}, make("span", { textContent: text }), make("span", { textContent: value.toFixed(2) }), meter);
  });
}
